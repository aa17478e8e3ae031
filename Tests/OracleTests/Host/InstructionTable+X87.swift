// Instructions of the x87 unit, by encoding: SDM vol. 2, appendix A.5.

extension InstructionTable {
    private static func x87(
        _ name: String, _ opcode: UInt8, _ digit: UInt8, _ rm: InstructionForm.RM,
        _ operand: InstructionForm.X87Operand = .extended, sizes: [Int] = [0], ulps: UInt64 = 0,
        feature: CPUFeature? = .fpu
    ) -> InstructionForm {
        InstructionForm(
            mnemonic: name, opcode: [opcode], sizes: sizes, shape: .modRM(.digit(digit), rm),
            kind: .x87(operand, ulps: ulps), feature: feature)
    }

    static let x87: [InstructionForm] =
        x87Arithmetic + x87Moves + x87Comparisons + x87Constants + x87Control
        + x87Unlisted.map { form in
            var form = form
            form.isUnlisted = true
            return form
        }

    /// Of D8, and of DC and DE with registers.
    private static let arithmeticDigits: [(String, UInt8, UInt8)] = [
        ("FADD", 0, 0), ("FMUL", 1, 1), ("FCOM", 2, 2), ("FCOMP", 3, 3), ("FSUB", 4, 5), ("FSUBR", 5, 4),
        ("FDIV", 6, 7), ("FDIVR", 7, 6),
    ]

    private static let x87Arithmetic: [InstructionForm] =
        arithmeticDigits.flatMap { (name, digit, digitIntoRegister) -> [InstructionForm] in
            let ofInteger = "FI" + name.dropFirst()
            let intoRegister = [
                x87(name, 0xDC, digitIntoRegister, .register), x87(name + "P", 0xDE, digitIntoRegister, .register),
            ]
            return [
                x87(name, 0xD8, digit, .memory, .single), x87(name, 0xDC, digit, .memory, .double),
                x87(ofInteger, 0xDA, digit, .memory, .integer(32)), x87(ofInteger, 0xDE, digit, .memory, .integer(16)),
                x87(name, 0xD8, digit, .register),
            ] + (name.hasPrefix("FCOM") ? [] : intoRegister)
        }
        + [
            x87("FCOMPP", 0xDE, 3, .fixed(1)), x87("FCHS", 0xD9, 4, .fixed(0)),
            x87("FABS", 0xD9, 4, .fixed(1)), x87("FSQRT", 0xD9, 7, .fixed(2)), x87("FRNDINT", 0xD9, 7, .fixed(4)),
            x87("FSCALE", 0xD9, 7, .fixed(5)), x87("FPREM", 0xD9, 7, .fixed(0)), x87("FPREM1", 0xD9, 6, .fixed(5)),
            x87("FXTRACT", 0xD9, 6, .fixed(4)),
            x87("F2XM1", 0xD9, 6, .fixed(0), .fraction, ulps: 1), x87("FYL2X", 0xD9, 6, .fixed(1), ulps: 1),
            x87("FYL2XP1", 0xD9, 7, .fixed(1), .fraction, ulps: 1), x87("FPTAN", 0xD9, 6, .fixed(2), ulps: 1),
            x87("FPATAN", 0xD9, 6, .fixed(3), ulps: 1), x87("FSINCOS", 0xD9, 7, .fixed(3), ulps: 1),
            x87("FSIN", 0xD9, 7, .fixed(6), ulps: 1), x87("FCOS", 0xD9, 7, .fixed(7), ulps: 1),
        ]

    private static let x87Moves: [InstructionForm] =
        [
            x87("FLD", 0xD9, 0, .memory, .single), x87("FLD", 0xDD, 0, .memory, .double), x87("FLD", 0xDB, 5, .memory),
            x87("FLD", 0xD9, 0, .register), x87("FBLD", 0xDF, 4, .memory, .decimal),
            x87("FILD", 0xDF, 0, .memory, .integer(16)), x87("FILD", 0xDB, 0, .memory, .integer(32)),
            x87("FILD", 0xDF, 5, .memory, .integer(64)),
            x87("FST", 0xD9, 2, .memory, .single), x87("FST", 0xDD, 2, .memory, .double),
            x87("FST", 0xDD, 2, .register),
            x87("FSTP", 0xD9, 3, .memory, .single), x87("FSTP", 0xDD, 3, .memory, .double),
            x87("FSTP", 0xDB, 7, .memory), x87("FSTP", 0xDD, 3, .register),
            x87("FIST", 0xDF, 2, .memory, .integer(16)), x87("FIST", 0xDB, 2, .memory, .integer(32)),
            x87("FISTP", 0xDF, 3, .memory, .integer(16)), x87("FISTP", 0xDB, 3, .memory, .integer(32)),
            x87("FISTP", 0xDF, 7, .memory, .integer(64)), x87("FBSTP", 0xDF, 6, .memory, .decimal),
            x87("FISTTP", 0xDF, 1, .memory, .integer(16), feature: .sse3),
            x87("FISTTP", 0xDB, 1, .memory, .integer(32), feature: .sse3),
            x87("FISTTP", 0xDD, 1, .memory, .integer(64), feature: .sse3),
            x87("FXCH", 0xD9, 1, .register),
        ]
        + [
            ("FCMOVB", 0xDA, 0), ("FCMOVE", 0xDA, 1), ("FCMOVBE", 0xDA, 2), ("FCMOVU", 0xDA, 3), ("FCMOVNB", 0xDB, 0),
            ("FCMOVNE", 0xDB, 1), ("FCMOVNBE", 0xDB, 2), ("FCMOVNU", 0xDB, 3),
        ].map { x87($0.0, $0.1, $0.2, .register) }

    private static let x87Comparisons: [InstructionForm] = [
        x87("FUCOM", 0xDD, 4, .register), x87("FUCOMP", 0xDD, 5, .register), x87("FUCOMPP", 0xDA, 5, .fixed(1)),
        x87("FCOMI", 0xDB, 6, .register), x87("FCOMIP", 0xDF, 6, .register), x87("FUCOMI", 0xDB, 5, .register),
        x87("FUCOMIP", 0xDF, 5, .register), x87("FTST", 0xD9, 4, .fixed(4)), x87("FXAM", 0xD9, 4, .fixed(5)),
    ]

    private static let x87Constants: [InstructionForm] =
        ["FLD1", "FLDL2T", "FLDL2E", "FLDPI", "FLDLG2", "FLDLN2", "FLDZ"].enumerated().map { index, name in
            x87(name, 0xD9, 5, .fixed(UInt8(index)))
        }

    /// Those without a feature are executed by every model, since FXSAVE's state has what they change.
    private static let x87Control: [InstructionForm] = [
        x87("FINCSTP", 0xD9, 6, .fixed(7)), x87("FDECSTP", 0xD9, 6, .fixed(6)), x87("FFREE", 0xDD, 0, .register),
        x87("FNOP", 0xD9, 2, .fixed(0)),
        x87("FNINIT", 0xDB, 4, .fixed(3), feature: nil), x87("FNCLEX", 0xDB, 4, .fixed(2), feature: nil),
        x87("FNSTCW", 0xD9, 7, .memory, .integer(16), feature: nil),
        x87("FLDCW", 0xD9, 5, .memory, .integer(16), feature: nil),
        x87("FNSTSW", 0xDD, 7, .memory, .integer(16), feature: nil), x87("FNSTSW", 0xDF, 4, .fixed(0), feature: nil),
        x87("FNSTENV", 0xD9, 6, .memory, .environment, sizes: [16, 32]),
        x87("FLDENV", 0xD9, 4, .memory, .environment, sizes: [16, 32]),
        x87("FNSAVE", 0xDD, 6, .memory, .environment, sizes: [16, 32]),
        x87("FRSTOR", 0xDD, 4, .memory, .environment, sizes: [16, 32]),
    ]

    private static let x87Unlisted: [InstructionForm] = [
        x87("FCOM", 0xDC, 2, .register), x87("FCOMP", 0xDC, 3, .register), x87("FCOMP", 0xDE, 2, .register),
        x87("FSTP", 0xD9, 3, .register), x87("FSTP", 0xDF, 2, .register), x87("FSTP", 0xDF, 3, .register),
        x87("FXCH", 0xDD, 1, .register), x87("FXCH", 0xDF, 1, .register), x87("FFREEP", 0xDF, 0, .register),
        x87("FENI", 0xDB, 4, .fixed(0)), x87("FDISI", 0xDB, 4, .fixed(1)), x87("FSETPM", 0xDB, 4, .fixed(4)),
    ]
}
