// Which x87 instruction an opcode is: SDM vol. 2, appendix A.5.

import CZydis
import NVMM

extension Decoder {
    /// Sets operation and operand of D8 to DF; what is not offered stays invalid.
    func selectX87(_ instruction: Encoding, _ i: inout InstructionRecord) {
        guard instruction.opcodeMap == ZYDIS_OPCODE_MAP_DEFAULT, instruction.isLegacy,
            0xD8...0xDF ~= instruction.opcode, extensions.contains(.fpu)
        else { return }
        let digit = instruction.modRM >> 3 & 7
        let hasMemory = instruction.modRM < 0xC0
        let x87 =
            hasMemory
            ? Self.x87WithMemory(instruction.opcode, digit)
            : Self.x87WithRegister(instruction.opcode, digit, instruction.modRM & 7)
        guard x87.operation != .none, x87.operation != .fisttp || extensions.contains(.sse3) else { return }
        i.operation = .x87
        i.x87 = x87
        i.register0 = instruction.modRM & 7
        i.width = instruction.operandWidth
        // As the last instruction's opcode is kept: SDM vol. 1, section 8.1.9.
        i.immediate1 = UInt16(instruction.opcode & 7) << 8 | UInt16(instruction.modRM)
    }

    private static func arithmetic(_ digit: UInt8) -> (X87Operation, pops: UInt8) {
        switch digit {
        case 0: (.fadd, 0)
        case 1: (.fmul, 0)
        case 2: (.fcom, 0)
        case 3: (.fcom, 1)
        case 4: (.fsub, 0)
        case 5: (.fsubr, 0)
        case 6: (.fdiv, 0)
        default: (.fdivr, 0)
        }
    }

    private static func x87WithMemory(_ opcode: UInt8, _ digit: UInt8) -> X87Instruction {
        let operand: X87Operand = [.single, .integer32, .double, .integer16][Int(opcode >> 1 & 3)]
        if opcode & 1 == 0 {
            let (operation, pops) = arithmetic(digit)
            return X87Instruction(operation: operation, operand: operand, pops: pops)
        }
        switch (opcode, digit) {
        case (0xD9, 4): return X87Instruction(operation: .fldenv)
        case (0xD9, 6): return X87Instruction(operation: .fnstenv)
        case (0xDD, 4): return X87Instruction(operation: .frstor)
        case (0xDD, 6): return X87Instruction(operation: .fnsave)
        case (0xDB, 5): return X87Instruction(operation: .fld, operand: .extended)
        case (0xDB, 7): return X87Instruction(operation: .fst, operand: .extended, pops: 1)
        case (0xDD, 1): return X87Instruction(operation: .fisttp, operand: .integer64, pops: 1)
        case (0xDF, 4): return X87Instruction(operation: .fld, operand: .decimal)
        case (0xDF, 5): return X87Instruction(operation: .fld, operand: .integer64)
        case (0xDF, 6): return X87Instruction(operation: .fst, operand: .decimal, pops: 1)
        case (0xDF, 7): return X87Instruction(operation: .fst, operand: .integer64, pops: 1)
        case (_, 0): return X87Instruction(operation: .fld, operand: operand)
        case (0xDB, 1), (0xDF, 1): return X87Instruction(operation: .fisttp, operand: operand, pops: 1)
        case (_, 2): return X87Instruction(operation: .fst, operand: operand)
        case (_, 3): return X87Instruction(operation: .fst, operand: operand, pops: 1)
        default: return X87Instruction()
        }
    }

    private static func x87WithRegister(_ opcode: UInt8, _ digit: UInt8, _ register: UInt8) -> X87Instruction {
        func withRegister(_ operation: X87Operation, pops: UInt8 = 0, writes: Bool = false) -> X87Instruction {
            X87Instruction(operation: operation, operand: .register, pops: pops, writesRegister: writes)
        }
        switch (opcode, digit) {
        case (0xD8, _):
            let (operation, pops) = arithmetic(digit)
            return withRegister(operation, pops: pops)
        case (0xDC, 2): return withRegister(.fcom)
        case (0xDC, 3), (0xDE, 2): return withRegister(.fcom, pops: 1)
        case (0xDE, 3): return register == 1 ? withRegister(.fcom, pops: 2) : X87Instruction()
        case (0xDC, _), (0xDE, _):
            // Here the names of both orders have changed places: DC E0 is FSUBR.
            let (operation, _) = arithmetic(digit >= 4 ? digit ^ 1 : digit)
            return withRegister(operation, pops: opcode == 0xDE ? 1 : 0, writes: true)
        case (0xD9, 0): return withRegister(.fld)
        case (0xD9, 1), (0xDD, 1), (0xDF, 1): return withRegister(.fxch)
        case (0xD9, 2): return X87Instruction(operation: register == 0 ? .fnop : .none)
        case (0xD9, 3): return withRegister(.fstpnce, pops: 1)
        case (0xDD, 3), (0xDF, 2), (0xDF, 3): return withRegister(.fst, pops: 1)
        case (0xD9, 4...7): return X87Instruction(operation: withoutOperand[Int(digit - 4) * 8 + Int(register)])
        case (0xDA, 0): return withRegister(.fcmovb)
        case (0xDA, 1): return withRegister(.fcmove)
        case (0xDA, 2): return withRegister(.fcmovbe)
        case (0xDA, 3): return withRegister(.fcmovu)
        case (0xDA, 5): return register == 1 ? withRegister(.fucom, pops: 2) : X87Instruction()
        case (0xDB, 0): return withRegister(.fcmovnb)
        case (0xDB, 1): return withRegister(.fcmovne)
        case (0xDB, 2): return withRegister(.fcmovnbe)
        case (0xDB, 3): return withRegister(.fcmovnu)
        case (0xDB, 4): return X87Instruction(operation: [0, 1, 4].contains(register) ? .ignored : .none)
        case (0xDB, 5): return withRegister(.fucomi)
        case (0xDB, 6): return withRegister(.fcomi)
        case (0xDD, 0): return withRegister(.ffree)
        case (0xDF, 0): return withRegister(.ffree, pops: 1)
        case (0xDD, 2): return withRegister(.fst)
        case (0xDD, 4): return withRegister(.fucom)
        case (0xDD, 5): return withRegister(.fucom, pops: 1)
        case (0xDF, 5): return withRegister(.fucomi, pops: 1)
        case (0xDF, 6): return withRegister(.fcomi, pops: 1)
        default: return X87Instruction()
        }
    }

    /// D9 E0 to D9 FF.
    private static let withoutOperand: [X87Operation] = [
        .fchs, .fabs, .none, .none, .ftst, .fxam, .none, .none,
        .fld1, .fldl2t, .fldl2e, .fldpi, .fldlg2, .fldln2, .fldz, .none,
        .f2xm1, .fyl2x, .fptan, .fpatan, .fxtract, .fprem1, .fdecstp, .fincstp,
        .fprem, .fyl2xp1, .fsqrt, .fsincos, .frndint, .fscale, .fsin, .fcos,
    ]
}
