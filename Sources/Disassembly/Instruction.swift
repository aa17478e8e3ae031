// The instruction at an exit, for people: Zydis, Intel syntax. Decoding rules: SDM vol. 2; sizes: SDM vol. 3, 3.4.5.

internal import CZydis
public import NVMM

/// Default sizes of operands and addresses: what CS and EFER make of the same bytes.
public enum CodeSize: UInt8, CaseIterable, Sendable {
    case bits16 = 16
    case bits32 = 32
    case bits64 = 64

    /// The size that a VCPU in `state` decodes with: CS.L counts only while EFER.LMA is set, CS.D only in
    /// protected mode outside virtual-8086.
    public init(of state: VCPUState) {
        let longModeActive = state[.efer] & 1 << 10 != 0
        let protected = state[.cr0] & 1 != 0
        let virtual8086 = state[.rflags] & 1 << 17 != 0
        let attributes = state[.cs].attributes
        if longModeActive && attributes.contains(.long) {
            self = .bits64
        } else if protected && !virtual8086 && attributes.contains(.defaultBig) {
            self = .bits32
        } else {
            self = .bits16
        }
    }
}

/// One decoded instruction.
public struct Instruction: Hashable, Sendable {
    /// Lower case, without prefixes: `add`.
    public var mnemonic: String
    /// Prefixes, mnemonic and operands; branch targets are absolute.
    public var text: String
    /// Mnemonic and kinds of operands, as the manuals name forms: `shl r32, imm8`, `mov m64, r64`.
    public var form: String
    /// 1...15.
    public var byteCount: Int
    /// A string instruction behind REP, REPE or REPNE.
    public var isRepeated: Bool

    /// Decodes the first instruction of `bytes`.
    ///
    /// - Parameter rip: where the first byte stands: offset in the code segment.
    /// - Returns: nil where the bytes are no instruction, or not all of one.
    public init?(decoding bytes: [UInt8], at rip: UInt64, size: CodeSize) {
        let (mode, stack) =
            switch size {
            case .bits16: (ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16)
            case .bits32: (ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32)
            case .bits64: (ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)
            }
        var decoder = ZydisDecoder()
        guard succeeded(unsafe ZydisDecoderInit(&decoder, mode, stack)) else { return nil }
        var instruction = unsafe ZydisDecodedInstruction()
        // SAFETY: every buffer below is an array that outlives its call, passed with its own count.
        let operands = unsafe [ZydisDecodedOperand](
            unsafeUninitializedCapacity: Int(ZYDIS_MAX_OPERAND_COUNT)
        ) { buffer, count in
            let status = unsafe bytes.withUnsafeBytes { code in
                unsafe ZydisDecoderDecodeFull(
                    &decoder, code.baseAddress, ZyanUSize(code.count), &instruction, buffer.baseAddress)
            }
            count = succeeded(status) ? min(Int(unsafe instruction.operand_count), buffer.count) : 0
            if !succeeded(status) { unsafe instruction.length = 0 }
        }
        guard unsafe instruction.length > 0 else { return nil }
        var formatter = ZydisFormatter()
        guard succeeded(unsafe ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL)) else { return nil }
        var text = [CChar](repeating: 0, count: 256)
        let visible = unsafe min(Int(instruction.operand_count_visible), operands.count)
        let status = unsafe operands.withUnsafeBufferPointer { operands in
            unsafe ZydisFormatterFormatInstruction(
                &formatter, &instruction, operands.baseAddress, UInt8(visible), &text, ZyanUSize(text.count), rip, nil)
        }
        guard succeeded(status) else { return nil }
        self.text = Self.string(text)
        mnemonic = unsafe ZydisMnemonicGetString(instruction.mnemonic).map { unsafe String(cString: $0) } ?? "unknown"
        let kinds = unsafe operands.prefix(visible).map { unsafe Self.kind($0) }
        form = kinds.isEmpty ? mnemonic : mnemonic + " " + kinds.joined(separator: ", ")
        byteCount = Int(unsafe instruction.length)
        let repeats = ZydisInstructionAttributes(
            ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)
        isRepeated = unsafe instruction.attributes & repeats != 0
    }

    private static func kind(_ operand: ZydisDecodedOperand) -> String {
        let size = unsafe operand.size
        switch unsafe operand.type {
        case ZYDIS_OPERAND_TYPE_REGISTER:
            return switch ZydisRegisterGetClass(unsafe operand.reg.value) {
            case ZYDIS_REGCLASS_SEGMENT: "sreg"
            case ZYDIS_REGCLASS_CONTROL: "cr"
            case ZYDIS_REGCLASS_DEBUG: "dr"
            case ZYDIS_REGCLASS_X87: "st"
            case ZYDIS_REGCLASS_MMX: "mm"
            case ZYDIS_REGCLASS_XMM: "xmm"
            default: "r\(size)"
            }
        case ZYDIS_OPERAND_TYPE_MEMORY: return "m\(size)"
        case ZYDIS_OPERAND_TYPE_POINTER: return "ptr\(size)"
        default: return unsafe operand.imm.is_relative != 0 ? "rel\(size)" : "imm\(size)"
        }
    }

    private static func string(_ characters: [CChar]) -> String {
        String(decoding: characters.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

/// `ZYAN_SUCCESS`, which Swift does not import.
private func succeeded(_ status: ZyanStatus) -> Bool { status & 0x8000_0000 == 0 }
