// Which operation executes a mnemonic, and how its block goes on: the instruction set that the model offers.

import CZydis
import NVMM

extension Decoder {
    /// Sets operation, width and flags from the mnemonic. What is not named here is not offered and stays invalid.
    ///
    /// - Parameter operandWidth: log2 of the effective operand bytes.
    func selectOperation(
        _ instruction: Encoding, _ i: inout InstructionRecord, operandWidth: UInt8
    ) {
        func set(_ operation: Operation, _ flags: InstructionFlags = []) {
            i.operation = operation
            i.flags.formUnion(flags)
        }
        switch instruction.mnemonic {
        case ZYDIS_MNEMONIC_ADD: set(.add)
        case ZYDIS_MNEMONIC_OR: set(.or)
        case ZYDIS_MNEMONIC_ADC: set(.adc)
        case ZYDIS_MNEMONIC_SBB: set(.sbb)
        case ZYDIS_MNEMONIC_AND: set(.and)
        case ZYDIS_MNEMONIC_SUB: set(.sub)
        case ZYDIS_MNEMONIC_XOR: set(.xor)
        case ZYDIS_MNEMONIC_CMP: set(.cmp)
        case ZYDIS_MNEMONIC_TEST: set(.test)
        case ZYDIS_MNEMONIC_INC: set(.inc)
        case ZYDIS_MNEMONIC_DEC: set(.dec)
        case ZYDIS_MNEMONIC_NEG: set(.neg)
        case ZYDIS_MNEMONIC_NOT: set(.not)

        case ZYDIS_MNEMONIC_MOV: selectMov(instruction, &i)
        case ZYDIS_MNEMONIC_MOVZX: set(.movzx)
        case ZYDIS_MNEMONIC_MOVSX, ZYDIS_MNEMONIC_MOVSXD: set(.movsx)
        case ZYDIS_MNEMONIC_LEA: set(.lea)
        case ZYDIS_MNEMONIC_XCHG: set(.xchg)
        case ZYDIS_MNEMONIC_XADD: set(.xadd)
        case ZYDIS_MNEMONIC_CMPXCHG: set(.cmpxchg)
        case ZYDIS_MNEMONIC_CMPXCHG8B: set(.cmpxchg8b)
        case ZYDIS_MNEMONIC_CMPXCHG16B: set(.cmpxchg16b)
        case ZYDIS_MNEMONIC_BSWAP: set(.bswap)
        case ZYDIS_MNEMONIC_XLAT: set(.xlat)
        case ZYDIS_MNEMONIC_NOP, ZYDIS_MNEMONIC_PAUSE, ZYDIS_MNEMONIC_PREFETCHNTA, ZYDIS_MNEMONIC_PREFETCHT0,
            ZYDIS_MNEMONIC_PREFETCHT1, ZYDIS_MNEMONIC_PREFETCHT2, ZYDIS_MNEMONIC_PREFETCH, ZYDIS_MNEMONIC_PREFETCHW,
            ZYDIS_MNEMONIC_PREFETCHWT1:
            set(.nop)
        case ZYDIS_MNEMONIC_CBW, ZYDIS_MNEMONIC_CWDE, ZYDIS_MNEMONIC_CDQE:
            set(.cbw)
            i.width = operandWidth
        case ZYDIS_MNEMONIC_CWD, ZYDIS_MNEMONIC_CDQ, ZYDIS_MNEMONIC_CQO:
            set(.cwd)
            i.width = operandWidth
        case ZYDIS_MNEMONIC_LAHF: set(.lahf)
        case ZYDIS_MNEMONIC_SAHF: set(.sahf)
        case ZYDIS_MNEMONIC_CLC: set(.clc)
        case ZYDIS_MNEMONIC_STC: set(.stc)
        case ZYDIS_MNEMONIC_CMC: set(.cmc)
        case ZYDIS_MNEMONIC_CLD: set(.cld)
        case ZYDIS_MNEMONIC_STD: set(.std)
        case ZYDIS_MNEMONIC_SALC: set(.salc)

        case ZYDIS_MNEMONIC_PUSH:
            i.width = operandWidth
            set(i.form == .register && isSegmentRegister(instruction) ? .pushSegment : .push)
        case ZYDIS_MNEMONIC_POP:
            i.width = operandWidth
            if i.form == .register && isSegmentRegister(instruction) {
                set(.popSegment, .endsBlock)
            } else {
                set(.pop)
            }
        case ZYDIS_MNEMONIC_PUSHA, ZYDIS_MNEMONIC_PUSHAD:
            i.width = operandWidth
            set(.pusha)
        case ZYDIS_MNEMONIC_POPA, ZYDIS_MNEMONIC_POPAD:
            i.width = operandWidth
            set(.popa)
        case ZYDIS_MNEMONIC_PUSHF, ZYDIS_MNEMONIC_PUSHFD, ZYDIS_MNEMONIC_PUSHFQ:
            i.width = operandWidth
            set(.pushf)
        case ZYDIS_MNEMONIC_POPF, ZYDIS_MNEMONIC_POPFD, ZYDIS_MNEMONIC_POPFQ:
            i.width = operandWidth
            set(.popf, .endsBlock)
        case ZYDIS_MNEMONIC_ENTER:
            i.width = operandWidth
            set(.enter)
        case ZYDIS_MNEMONIC_LEAVE:
            i.width = operandWidth
            set(.leave)

        case ZYDIS_MNEMONIC_JMP, ZYDIS_MNEMONIC_CALL: selectTransfer(instruction, &i, operandWidth: operandWidth)
        case ZYDIS_MNEMONIC_RET:
            i.width = operandWidth
            set(instruction.opcode & 8 != 0 ? .retFar : .ret, [.endsBlock, .writesRIP])
        case ZYDIS_MNEMONIC_JCXZ, ZYDIS_MNEMONIC_JECXZ, ZYDIS_MNEMONIC_JRCXZ:
            i.width = operandWidth
            set(.jcxz, [.endsBlock, .writesRIP])
        case ZYDIS_MNEMONIC_LOOP:
            i.width = operandWidth
            set(.loop, [.endsBlock, .writesRIP])
        case ZYDIS_MNEMONIC_LOOPE:
            i.width = operandWidth
            set(.loope, [.endsBlock, .writesRIP])
        case ZYDIS_MNEMONIC_LOOPNE:
            i.width = operandWidth
            set(.loopne, [.endsBlock, .writesRIP])

        case ZYDIS_MNEMONIC_ROL: set(.rol)
        case ZYDIS_MNEMONIC_ROR: set(.ror)
        case ZYDIS_MNEMONIC_RCL: set(.rcl)
        case ZYDIS_MNEMONIC_RCR: set(.rcr)
        case ZYDIS_MNEMONIC_SHL: set(.shl)
        case ZYDIS_MNEMONIC_SHR: set(.shr)
        case ZYDIS_MNEMONIC_SAR: set(.sar)
        case ZYDIS_MNEMONIC_SHLD: set(.shld)
        case ZYDIS_MNEMONIC_SHRD: set(.shrd)
        case ZYDIS_MNEMONIC_MUL: set(.mul)
        case ZYDIS_MNEMONIC_IMUL:
            set(instruction.visibleOperands == 1 ? .imul : instruction.visibleOperands == 2 ? .imul2 : .imul3)
        case ZYDIS_MNEMONIC_DIV: set(.div)
        case ZYDIS_MNEMONIC_IDIV: set(.idiv)
        case ZYDIS_MNEMONIC_BT: set(.bt)
        case ZYDIS_MNEMONIC_BTS: set(.bts)
        case ZYDIS_MNEMONIC_BTR: set(.btr)
        case ZYDIS_MNEMONIC_BTC: set(.btc)
        case ZYDIS_MNEMONIC_BSF: set(.bsf)
        case ZYDIS_MNEMONIC_BSR: set(.bsr)
        case ZYDIS_MNEMONIC_DAA: set(.daa)
        case ZYDIS_MNEMONIC_DAS: set(.das)
        case ZYDIS_MNEMONIC_AAA: set(.aaa)
        case ZYDIS_MNEMONIC_AAS: set(.aas)
        case ZYDIS_MNEMONIC_AAM: set(.aam)
        case ZYDIS_MNEMONIC_AAD: set(.aad)
        case ZYDIS_MNEMONIC_BOUND: set(.bound)

        default: selectSystemOperation(instruction, &i, operandWidth: operandWidth)
        }
        selectByCondition(instruction, &i, operandWidth: operandWidth)
        if i.operation == .invalid { selectExtension(instruction, &i) }
        if i.operation == .invalid { selectVector(instruction, &i) }
        if i.operation == .invalid { selectAVX(instruction, &i) }
        if i.operation == .invalid { selectX87(instruction, &i) }
        if i.operation == .invalid { i.flags.insert(.endsBlock) }
        // A repeated instruction counts its iterations, so it stands last.
        if !i.flags.isDisjoint(with: [.rep, .repne]), isString(i.operation) {
            i.flags.formUnion([.endsBlock, .writesRIP])
        }
    }

    private func isString(_ operation: Operation) -> Bool {
        switch operation {
        case .movs, .cmps, .stos, .lods, .scas, .ins, .outs: true
        default: false
        }
    }

    /// PUSH and POP of segment registers: 06, 07, 0E, 16, 17, 1E, 1F and 0F A0, A1, A8, A9.
    private func isSegmentRegister(_ instruction: Encoding) -> Bool {
        let opcode = instruction.opcode
        return instruction.opcodeMap == ZYDIS_OPCODE_MAP_0F
            || instruction.opcodeMap == ZYDIS_OPCODE_MAP_DEFAULT && opcode < 0x20
    }

    private func selectMov(_ instruction: Encoding, _ i: inout InstructionRecord) {
        switch (instruction.opcodeMap, instruction.opcode) {
        case (ZYDIS_OPCODE_MAP_DEFAULT, 0x8C): i.operation = .movFromSegment
        case (ZYDIS_OPCODE_MAP_DEFAULT, 0x8E):
            i.operation = .movToSegment
            i.flags.insert(.endsBlock)
        case (ZYDIS_OPCODE_MAP_0F, 0x20): i.operation = .movFromCR
        case (ZYDIS_OPCODE_MAP_0F, 0x22):
            i.operation = .movToCR
            i.flags.formUnion(.endsBlock)
        case (ZYDIS_OPCODE_MAP_0F, 0x21): i.operation = .movFromDR
        case (ZYDIS_OPCODE_MAP_0F, 0x23):
            i.operation = .movToDR
            i.flags.formUnion(.endsBlock)
        default: i.operation = .mov
        }
    }

    private func selectTransfer(
        _ instruction: Encoding, _ i: inout InstructionRecord, operandWidth: UInt8
    ) {
        let isCall = instruction.mnemonic == ZYDIS_MNEMONIC_CALL
        let isFar = instruction.isFarBranch
        i.operation = isFar ? (isCall ? .callFar : .jmpFar) : (isCall ? .call : .jmp)
        i.width = operandWidth
        i.flags.formUnion([.endsBlock, .writesRIP])
    }

    /// Jcc, SETcc and CMOVcc: one operation each, the condition stands in the opcode.
    private func selectByCondition(
        _ instruction: Encoding, _ i: inout InstructionRecord, operandWidth: UInt8
    ) {
        guard i.operation == .invalid else { return }
        switch (instruction.opcodeMap, instruction.opcode) {
        case (ZYDIS_OPCODE_MAP_DEFAULT, 0x70...0x7F), (ZYDIS_OPCODE_MAP_0F, 0x80...0x8F):
            guard instruction.isLegacy else { return }
            i.operation = .jcc
            i.width = operandWidth
            // The block goes on: most branches are not taken most of the time.
            i.flags.insert(.writesRIP)
        case (ZYDIS_OPCODE_MAP_0F, 0x90...0x9F):
            guard instruction.isLegacy else { return }
            i.operation = .setcc
        case (ZYDIS_OPCODE_MAP_0F, 0x40...0x4F):
            guard instruction.isLegacy else { return }
            i.operation = .cmov
        default: break
        }
    }

    private func selectSystemOperation(
        _ instruction: Encoding, _ i: inout InstructionRecord, operandWidth: UInt8
    ) {
        func set(_ operation: Operation, _ flags: InstructionFlags = []) {
            i.operation = operation
            i.flags.formUnion(flags)
        }
        let transfer: InstructionFlags = [.endsBlock, .writesRIP]
        switch instruction.mnemonic {
        // String instructions: width of one element; the segment is that of the source operand.
        case ZYDIS_MNEMONIC_MOVSB, ZYDIS_MNEMONIC_MOVSW, ZYDIS_MNEMONIC_MOVSD, ZYDIS_MNEMONIC_MOVSQ:
            guard instruction.opcodeMap == ZYDIS_OPCODE_MAP_DEFAULT else { return }  // MOVSD of SSE2
            set(.movs)
        case ZYDIS_MNEMONIC_CMPSB, ZYDIS_MNEMONIC_CMPSW, ZYDIS_MNEMONIC_CMPSD, ZYDIS_MNEMONIC_CMPSQ:
            guard instruction.opcodeMap == ZYDIS_OPCODE_MAP_DEFAULT else { return }
            set(.cmps)
        case ZYDIS_MNEMONIC_STOSB, ZYDIS_MNEMONIC_STOSW, ZYDIS_MNEMONIC_STOSD, ZYDIS_MNEMONIC_STOSQ: set(.stos)
        case ZYDIS_MNEMONIC_LODSB, ZYDIS_MNEMONIC_LODSW, ZYDIS_MNEMONIC_LODSD, ZYDIS_MNEMONIC_LODSQ: set(.lods)
        case ZYDIS_MNEMONIC_SCASB, ZYDIS_MNEMONIC_SCASW, ZYDIS_MNEMONIC_SCASD, ZYDIS_MNEMONIC_SCASQ: set(.scas)
        case ZYDIS_MNEMONIC_INSB, ZYDIS_MNEMONIC_INSW, ZYDIS_MNEMONIC_INSD: set(.ins, .endsBlock)
        case ZYDIS_MNEMONIC_OUTSB, ZYDIS_MNEMONIC_OUTSW, ZYDIS_MNEMONIC_OUTSD: set(.outs, .endsBlock)
        case ZYDIS_MNEMONIC_IN: set(.in, .endsBlock)
        case ZYDIS_MNEMONIC_OUT:
            set(.out, .endsBlock)
            // E6, E7, EE, EF: bit 0 of the opcode is set where the operand is not a byte.
            i.width = instruction.opcode & 1 == 0 ? 0 : min(operandWidth, 2)

        case ZYDIS_MNEMONIC_IRET, ZYDIS_MNEMONIC_IRETD, ZYDIS_MNEMONIC_IRETQ:
            i.width = operandWidth
            set(.iret, transfer)
        case ZYDIS_MNEMONIC_INT: set(.int, transfer)
        case ZYDIS_MNEMONIC_INT3: set(.int3, transfer)
        case ZYDIS_MNEMONIC_INT1: set(.int1, transfer)
        case ZYDIS_MNEMONIC_INTO: set(.into, transfer)

        case ZYDIS_MNEMONIC_LES, ZYDIS_MNEMONIC_LDS, ZYDIS_MNEMONIC_LSS, ZYDIS_MNEMONIC_LFS, ZYDIS_MNEMONIC_LGS:
            set(.loadFarPointer, .endsBlock)
            i.width = operandWidth
            i.register1 =
                switch instruction.mnemonic {
                case ZYDIS_MNEMONIC_LES: 0
                case ZYDIS_MNEMONIC_LSS: 2
                case ZYDIS_MNEMONIC_LDS: 3
                case ZYDIS_MNEMONIC_LFS: 4
                default: 5
                }
        case ZYDIS_MNEMONIC_LLDT: set(.lldt, .endsBlock)
        case ZYDIS_MNEMONIC_LTR: set(.ltr, .endsBlock)
        case ZYDIS_MNEMONIC_SLDT: set(.sldt)
        case ZYDIS_MNEMONIC_STR: set(.str)
        case ZYDIS_MNEMONIC_LAR: set(.lar)
        case ZYDIS_MNEMONIC_LSL: set(.lsl)
        case ZYDIS_MNEMONIC_VERR: set(.verr)
        case ZYDIS_MNEMONIC_VERW: set(.verw)
        case ZYDIS_MNEMONIC_ARPL: set(.arpl)

        case ZYDIS_MNEMONIC_SYSCALL: set(.syscall, transfer)
        case ZYDIS_MNEMONIC_SYSRET:
            i.width = operandWidth
            set(.sysret, transfer)
        case ZYDIS_MNEMONIC_SYSENTER: set(.sysenter, transfer)
        case ZYDIS_MNEMONIC_SYSEXIT:
            i.width = operandWidth
            set(.sysexit, transfer)

        case ZYDIS_MNEMONIC_LMSW: set(.lmsw, .endsBlock)
        case ZYDIS_MNEMONIC_SMSW: set(.smsw)
        case ZYDIS_MNEMONIC_CLTS: set(.clts)
        case ZYDIS_MNEMONIC_LGDT:
            i.width = operandWidth
            set(.lgdt)
        case ZYDIS_MNEMONIC_LIDT:
            i.width = operandWidth
            set(.lidt)
        case ZYDIS_MNEMONIC_SGDT:
            i.width = operandWidth
            set(.sgdt)
        case ZYDIS_MNEMONIC_SIDT:
            i.width = operandWidth
            set(.sidt)
        case ZYDIS_MNEMONIC_INVLPG: set(.invlpg, .endsBlock)
        case ZYDIS_MNEMONIC_INVD: set(.invd, .endsBlock)
        case ZYDIS_MNEMONIC_WBINVD: set(.wbinvd)
        case ZYDIS_MNEMONIC_CLI: set(.cli)
        case ZYDIS_MNEMONIC_STI: set(.sti, .endsBlock)
        case ZYDIS_MNEMONIC_HLT: set(.hlt, .endsBlock)
        case ZYDIS_MNEMONIC_CPUID: set(.cpuid, .endsBlock)
        case ZYDIS_MNEMONIC_RDTSC: set(.rdtsc)
        case ZYDIS_MNEMONIC_RDMSR: set(.rdmsr, .endsBlock)
        case ZYDIS_MNEMONIC_WRMSR: set(.wrmsr, .endsBlock)
        case ZYDIS_MNEMONIC_SWAPGS: set(.swapgs)
        case ZYDIS_MNEMONIC_STAC: set(.stac, .endsBlock)
        case ZYDIS_MNEMONIC_CLAC: set(.clac, .endsBlock)
        case ZYDIS_MNEMONIC_MONITOR: set(.monitor, .endsBlock)
        case ZYDIS_MNEMONIC_MWAIT: set(.mwait, .endsBlock)

        case ZYDIS_MNEMONIC_FXSAVE, ZYDIS_MNEMONIC_FXSAVE64: set(.fxsave)
        case ZYDIS_MNEMONIC_FXRSTOR, ZYDIS_MNEMONIC_FXRSTOR64: set(.fxrstor)
        case ZYDIS_MNEMONIC_FNINIT: set(.fninit)
        case ZYDIS_MNEMONIC_FNSTCW: set(.fnstcw)
        case ZYDIS_MNEMONIC_FLDCW: set(.fldcw)
        case ZYDIS_MNEMONIC_FNSTSW: set(.fnstsw)
        case ZYDIS_MNEMONIC_FNCLEX: set(.fnclex)
        case ZYDIS_MNEMONIC_FWAIT: set(.fwait)
        case ZYDIS_MNEMONIC_LDMXCSR: set(.ldmxcsr)
        case ZYDIS_MNEMONIC_STMXCSR: set(.stmxcsr)
        default: break
        }
    }
}
