// Which operation executes a mnemonic of AVX and AVX2, where the model offers it.

import CZydis

extension Decoder {
    /// Sets operation and vector operation; what is not offered stays invalid.
    func selectAVX(_ instruction: Encoding, _ i: inout InstructionRecord) {
        guard instruction.isVEX, let set = Self.extensionsOfAVX(instruction.isaSet), extensions.contains(set) else {
            return
        }
        var operation = Self.ownVectorOperation(instruction.mnemonic, &i)
        if operation == .none, let plain = Self.mnemonicsWithoutV[instruction.mnemonic.rawValue] {
            var legacy = instruction
            legacy.mnemonic = plain
            let (found, needed) = Self.vectorOperation(legacy)
            if extensions.contains(needed) { operation = found }
        }
        guard operation != .none else { return }
        i.operation = .avx
        i.vector = operation
        switch operation {
        // Of the operand in a general register or memory, which is the third here.
        case .cvtsi2ss, .cvtsi2sd: i.width1 = i.flags.contains(.rexW) ? 3 : 2
        default: break
        }
    }

    /// nil for all other sets.
    private static func extensionsOfAVX(_ set: ZydisISASet) -> InstructionExtensions? {
        switch set {
        case ZYDIS_ISA_SET_AVX: .avx
        case ZYDIS_ISA_SET_AVX2, ZYDIS_ISA_SET_AVX2GATHER: .avx2
        case ZYDIS_ISA_SET_AVXAES: [.avx, .aes]
        default: nil
        }
    }

    /// By mnemonic with V, that of the instruction that does the same on two operands: `VADDPS` and `ADDPS`.
    private static let mnemonicsWithoutV: [UInt32: ZydisMnemonic] = {
        var byName: [String: ZydisMnemonic] = [:]
        for number in 1...ZYDIS_MNEMONIC_MAX_VALUE.rawValue {
            let mnemonic = ZydisMnemonic(rawValue: number)
            guard let text = unsafe ZydisMnemonicGetString(mnemonic) else { continue }
            byName[unsafe String(cString: text)] = mnemonic
        }
        var result: [UInt32: ZydisMnemonic] = [:]
        for (name, mnemonic) in byName where name.first == "v" {
            result[mnemonic.rawValue] = byName[String(name.dropFirst())]
        }
        return result
    }()

    /// Of a mnemonic without a counterpart, or with another meaning than that. Widths are those of the elements, and
    /// of a gather's indices.
    private static func ownVectorOperation(_ mnemonic: ZydisMnemonic, _ i: inout InstructionRecord) -> VectorOperation {
        func of(_ width: UInt8, _ operation: VectorOperation, indices: UInt8 = 0) -> VectorOperation {
            i.width = width
            i.width1 = indices
            return operation
        }
        switch mnemonic {
        case ZYDIS_MNEMONIC_VLDMXCSR: return .vldmxcsr
        case ZYDIS_MNEMONIC_VSTMXCSR: return .vstmxcsr
        case ZYDIS_MNEMONIC_VZEROALL: return .vzeroall
        case ZYDIS_MNEMONIC_VZEROUPPER: return .vzeroupper
        case ZYDIS_MNEMONIC_VTESTPS: return .vtestps
        case ZYDIS_MNEMONIC_VTESTPD: return .vtestpd
        case ZYDIS_MNEMONIC_VPBROADCASTB: return of(0, .vbroadcast)
        case ZYDIS_MNEMONIC_VPBROADCASTW: return of(1, .vbroadcast)
        case ZYDIS_MNEMONIC_VPBROADCASTD, ZYDIS_MNEMONIC_VBROADCASTSS: return of(2, .vbroadcast)
        case ZYDIS_MNEMONIC_VPBROADCASTQ, ZYDIS_MNEMONIC_VBROADCASTSD: return of(3, .vbroadcast)
        case ZYDIS_MNEMONIC_VBROADCASTF128, ZYDIS_MNEMONIC_VBROADCASTI128: return of(4, .vbroadcast)
        case ZYDIS_MNEMONIC_VINSERTF128, ZYDIS_MNEMONIC_VINSERTI128: return .vinsert128
        case ZYDIS_MNEMONIC_VEXTRACTF128, ZYDIS_MNEMONIC_VEXTRACTI128: return .vextract128
        case ZYDIS_MNEMONIC_VPERM2F128, ZYDIS_MNEMONIC_VPERM2I128: return .vperm2x128
        case ZYDIS_MNEMONIC_VPERMQ, ZYDIS_MNEMONIC_VPERMPD: return .vpermq
        case ZYDIS_MNEMONIC_VPERMD, ZYDIS_MNEMONIC_VPERMPS: return .vpermd
        case ZYDIS_MNEMONIC_VPERMILPS: return .vpermilps
        case ZYDIS_MNEMONIC_VPERMILPD: return .vpermilpd
        case ZYDIS_MNEMONIC_VPBLENDD: return .vpblendd
        case ZYDIS_MNEMONIC_VPSLLVD: return of(2, .vpsllv)
        case ZYDIS_MNEMONIC_VPSLLVQ: return of(3, .vpsllv)
        case ZYDIS_MNEMONIC_VPSRLVD: return of(2, .vpsrlv)
        case ZYDIS_MNEMONIC_VPSRLVQ: return of(3, .vpsrlv)
        case ZYDIS_MNEMONIC_VPSRAVD: return of(2, .vpsrav)
        case ZYDIS_MNEMONIC_VMASKMOVPS, ZYDIS_MNEMONIC_VPMASKMOVD: return of(2, .vmaskmov)
        case ZYDIS_MNEMONIC_VMASKMOVPD, ZYDIS_MNEMONIC_VPMASKMOVQ: return of(3, .vmaskmov)
        case ZYDIS_MNEMONIC_VGATHERDPS, ZYDIS_MNEMONIC_VPGATHERDD: return of(2, .vgather, indices: 2)
        case ZYDIS_MNEMONIC_VGATHERQPS, ZYDIS_MNEMONIC_VPGATHERQD: return of(2, .vgather, indices: 3)
        case ZYDIS_MNEMONIC_VGATHERDPD, ZYDIS_MNEMONIC_VPGATHERDQ: return of(3, .vgather, indices: 2)
        case ZYDIS_MNEMONIC_VGATHERQPD, ZYDIS_MNEMONIC_VPGATHERQQ: return of(3, .vgather, indices: 3)
        default: return .none
        }
    }
}
