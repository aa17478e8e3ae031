// Which operation executes a mnemonic of an extension, where the model offers it.

import CZydis
import NVMM

extension Decoder {
    /// Sets the operation; what is not offered stays invalid.
    func selectExtension(_ instruction: Encoding, _ i: inout InstructionRecord) {
        let (operation, needed) = Self.extensionOperation(instruction.mnemonic)
        guard let operation, extensions.contains(needed) else { return }
        // POPCNT, LZCNT and TZCNT have encodings with VEX too, which only one coprocessor ever had; INVPCID with EVEX.
        guard instruction.isLegacy || !Self.isLegacyOnly(operation) else { return }
        i.operation = operation
        if operation == .invpcid { i.flags.insert(.endsBlock) }
    }

    private static func extensionOperation(_ mnemonic: ZydisMnemonic) -> (Operation?, InstructionExtensions) {
        switch mnemonic {
        case ZYDIS_MNEMONIC_MOVBE: (.movbe, .movbe)
        case ZYDIS_MNEMONIC_CRC32: (.crc32, .sse42)
        case ZYDIS_MNEMONIC_SFENCE: (.fence, .sse)
        case ZYDIS_MNEMONIC_LFENCE, ZYDIS_MNEMONIC_MFENCE: (.fence, .sse2)
        case ZYDIS_MNEMONIC_POPCNT: (.popcnt, .popcnt)
        case ZYDIS_MNEMONIC_LZCNT: (.lzcnt, .lzcnt)
        case ZYDIS_MNEMONIC_TZCNT: (.tzcnt, .bmi1)
        case ZYDIS_MNEMONIC_ANDN: (.andn, .bmi1)
        case ZYDIS_MNEMONIC_BEXTR: (.bextr, .bmi1)
        case ZYDIS_MNEMONIC_BLSI: (.blsi, .bmi1)
        case ZYDIS_MNEMONIC_BLSMSK: (.blsmsk, .bmi1)
        case ZYDIS_MNEMONIC_BLSR: (.blsr, .bmi1)
        case ZYDIS_MNEMONIC_BZHI: (.bzhi, .bmi2)
        case ZYDIS_MNEMONIC_MULX: (.mulx, .bmi2)
        case ZYDIS_MNEMONIC_PDEP: (.pdep, .bmi2)
        case ZYDIS_MNEMONIC_PEXT: (.pext, .bmi2)
        case ZYDIS_MNEMONIC_RORX: (.rorx, .bmi2)
        case ZYDIS_MNEMONIC_SARX: (.sarx, .bmi2)
        case ZYDIS_MNEMONIC_SHLX: (.shlx, .bmi2)
        case ZYDIS_MNEMONIC_SHRX: (.shrx, .bmi2)
        case ZYDIS_MNEMONIC_ADCX: (.adcx, .adx)
        case ZYDIS_MNEMONIC_ADOX: (.adox, .adx)
        case ZYDIS_MNEMONIC_INVPCID: (.invpcid, .invpcid)
        case ZYDIS_MNEMONIC_XSAVE, ZYDIS_MNEMONIC_XSAVE64: (.xsave, .xsave)
        case ZYDIS_MNEMONIC_XRSTOR, ZYDIS_MNEMONIC_XRSTOR64: (.xrstor, .xsave)
        case ZYDIS_MNEMONIC_XGETBV: (.xgetbv, .xsave)
        case ZYDIS_MNEMONIC_XSETBV: (.xsetbv, .xsave)
        case ZYDIS_MNEMONIC_RDFSBASE: (.rdfsbase, .fsgsbase)
        case ZYDIS_MNEMONIC_RDGSBASE: (.rdgsbase, .fsgsbase)
        case ZYDIS_MNEMONIC_WRFSBASE: (.wrfsbase, .fsgsbase)
        case ZYDIS_MNEMONIC_WRGSBASE: (.wrgsbase, .fsgsbase)
        default: (nil, [])
        }
    }

    private static func isLegacyOnly(_ operation: Operation) -> Bool {
        switch operation {
        case .popcnt, .lzcnt, .tzcnt, .invpcid: true
        default: false
        }
    }
}
