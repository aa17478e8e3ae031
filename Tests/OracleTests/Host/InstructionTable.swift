// Every user-mode instruction of the base architecture that the host can check, by encoding.
// Undefined flags: SDM vol. 2, "Flags Affected" of the instruction's own section.

/// The encodings, in order of mnemonics within their groups.
enum InstructionTable {
    static let forms: [InstructionForm] =
        arithmetic + unary + shifts + multiplication + bits + moves + conditional + stack + branches + farTransfers
        + strings + flagsAndDecimal + segmentsAndSelectors + optional + vectors + mmx + x87
        + extendedVectors + avx

    private static let legacy: [CodeMode] = [.bits16, .bits32]
    private static let v = [16, 32, 64]
    private static let all = [8, 16, 32, 64]

    // MARK: - Groups

    private static let arithmetic: [InstructionForm] = {
        let names = ["ADD", "OR", "ADC", "SBB", "AND", "SUB", "XOR", "CMP"]
        var forms: [InstructionForm] = []
        for (index, name) in names.enumerated() {
            let base = UInt8(index * 8), digit = UInt8(index)
            let undefined: UndefinedRule = ["OR", "AND", "XOR"].contains(name) ? .flags(Flag.af) : .none
            let lock = name != "CMP"
            func add(
                _ opcode: UInt8, _ sizes: [Int], _ shape: InstructionForm.Shape, _ immediate: InstructionForm.Immediate,
                modes: [CodeMode] = CodeMode.allCases, lock: Bool = false
            ) {
                forms.append(
                    InstructionForm(
                        mnemonic: name, opcode: [opcode], sizes: sizes, modes: modes, shape: shape,
                        immediate: immediate,
                        undefined: undefined, takesLock: lock))
            }
            add(base, [8], .modRM(.operand, .either), .none, lock: lock)
            add(base + 1, v, .modRM(.operand, .either), .none, lock: lock)
            add(base + 2, [8], .modRM(.operand, .either), .none)
            add(base + 3, v, .modRM(.operand, .either), .none)
            add(base + 4, [8], .none, .byte)
            add(base + 5, v, .none, .z)
            add(0x80, [8], .modRM(.digit(digit), .either), .byte, lock: lock)
            add(0x81, v, .modRM(.digit(digit), .either), .z, lock: lock)
            add(0x83, v, .modRM(.digit(digit), .either), .signedByte, lock: lock)
            add(0x82, [8], .modRM(.digit(digit), .either), .byte, modes: legacy)
        }
        let testUndefined = UndefinedRule.flags(Flag.af)
        func test(
            _ opcode: UInt8, _ sizes: [Int], _ shape: InstructionForm.Shape, _ immediate: InstructionForm.Immediate
        ) {
            forms.append(
                InstructionForm(
                    mnemonic: "TEST", opcode: [opcode], sizes: sizes, shape: shape, immediate: immediate,
                    undefined: testUndefined))
        }
        test(0x84, [8], .modRM(.operand, .either), .none)
        test(0x85, v, .modRM(.operand, .either), .none)
        test(0xA8, [8], .none, .byte)
        test(0xA9, v, .none, .z)
        test(0xF6, [8], .modRM(.digit(0), .either), .byte)
        test(0xF7, v, .modRM(.digit(0), .either), .z)
        test(0xF6, [8], .modRM(.digit(1), .either), .byte)
        test(0xF7, v, .modRM(.digit(1), .either), .z)
        return forms
    }()

    private static let unary: [InstructionForm] = {
        var forms: [InstructionForm] = []
        for (name, byte, word, digit) in [
            ("INC", UInt8(0xFE), UInt8(0xFF), UInt8(0)), ("DEC", 0xFE, 0xFF, 1), ("NOT", 0xF6, 0xF7, 2),
            ("NEG", 0xF6, 0xF7, 3),
        ] {
            let shape = InstructionForm.Shape.modRM(.digit(digit), .either)
            forms.append(InstructionForm(mnemonic: name, opcode: [byte], sizes: [8], shape: shape, takesLock: true))
            forms.append(InstructionForm(mnemonic: name, opcode: [word], sizes: v, shape: shape, takesLock: true))
        }
        forms.append(
            InstructionForm(mnemonic: "INC", opcode: [0x40], sizes: [16, 32], modes: legacy, shape: .opcodeRegister))
        forms.append(
            InstructionForm(mnemonic: "DEC", opcode: [0x48], sizes: [16, 32], modes: legacy, shape: .opcodeRegister))
        return forms
    }()

    private static let shifts: [InstructionForm] = {
        var forms: [InstructionForm] = []
        let names: [(String, UInt8, UndefinedRule)] = [
            ("ROL", 0, .rotate), ("ROR", 1, .rotate), ("RCL", 2, .rotate), ("RCR", 3, .rotate),
            ("SHL", 4, .shift(losesCarry: true)), ("SHR", 5, .shift(losesCarry: true)),
            ("SHL", 6, .shift(losesCarry: true)), ("SAR", 7, .shift(losesCarry: false)),
        ]
        for (name, digit, undefined) in names {
            let shape = InstructionForm.Shape.modRM(.digit(digit), .either)
            for (opcode, sizes) in [(UInt8(0xC0), [8]), (0xC1, v)] {
                forms.append(
                    InstructionForm(
                        mnemonic: name, opcode: [opcode], sizes: sizes, shape: shape, immediate: .shiftCount,
                        undefined: undefined))
            }
            for (opcode, sizes) in [(UInt8(0xD0), [8]), (0xD1, v)] {
                forms.append(
                    InstructionForm(
                        mnemonic: name, opcode: [opcode], sizes: sizes, shape: shape, undefined: undefined))
            }
            for (opcode, sizes) in [(UInt8(0xD2), [8]), (0xD3, v)] {
                forms.append(
                    InstructionForm(
                        mnemonic: name, opcode: [opcode], sizes: sizes, shape: shape, kind: .shiftByCL,
                        undefined: undefined))
            }
        }
        for (name, opcode) in [("SHLD", UInt8(0xA4)), ("SHRD", 0xAC)] {
            let shape = InstructionForm.Shape.modRM(.operand, .either)
            forms.append(
                InstructionForm(
                    mnemonic: name, opcode: [0x0F, opcode], sizes: v, shape: shape, immediate: .shiftCount,
                    undefined: .doubleShift))
            forms.append(
                InstructionForm(
                    mnemonic: name, opcode: [0x0F, opcode + 1], sizes: v, shape: shape, kind: .shiftByCL,
                    undefined: .doubleShift))
        }
        return forms
    }()

    private static let multiplication: [InstructionForm] = {
        var forms: [InstructionForm] = []
        let product = UndefinedRule.flags(Flag.sf | Flag.zf | Flag.af | Flag.pf)
        let quotient = UndefinedRule.flags(Flag.arithmetic)
        for (name, digit, kind, undefined) in [
            ("MUL", UInt8(4), InstructionForm.Kind.multiply, product), ("IMUL", 5, .multiply, product),
            ("DIV", 6, .divide, quotient), ("IDIV", 7, .divide, quotient),
        ] {
            for (opcode, sizes) in [(UInt8(0xF6), [8]), (0xF7, v)] {
                forms.append(
                    InstructionForm(
                        mnemonic: name, opcode: [opcode], sizes: sizes, shape: .modRM(.digit(digit), .either),
                        kind: kind,
                        undefined: undefined))
            }
        }
        let shape = InstructionForm.Shape.modRM(.operand, .either)
        forms.append(
            InstructionForm(mnemonic: "IMUL", opcode: [0x0F, 0xAF], sizes: v, shape: shape, undefined: product))
        forms.append(
            InstructionForm(
                mnemonic: "IMUL", opcode: [0x69], sizes: v, shape: shape, immediate: .z, undefined: product))
        forms.append(
            InstructionForm(
                mnemonic: "IMUL", opcode: [0x6B], sizes: v, shape: shape, immediate: .signedByte, undefined: product))
        return forms
    }()

    private static let bits: [InstructionForm] = {
        var forms: [InstructionForm] = []
        let tested = UndefinedRule.flags(Flag.of | Flag.sf | Flag.af | Flag.pf)
        for (name, opcode, digit) in [
            ("BT", UInt8(0xA3), UInt8(4)), ("BTS", 0xAB, 5), ("BTR", 0xB3, 6), ("BTC", 0xBB, 7),
        ] {
            forms.append(
                InstructionForm(
                    mnemonic: name, opcode: [0x0F, opcode], sizes: v, shape: .modRM(.operand, .either),
                    kind: .bitString,
                    undefined: tested, takesLock: name != "BT"))
            forms.append(
                InstructionForm(
                    mnemonic: name, opcode: [0x0F, 0xBA], sizes: v, shape: .modRM(.digit(digit), .either),
                    immediate: .bitOffset, undefined: tested, takesLock: name != "BT"))
        }
        for (name, opcode) in [("BSF", UInt8(0xBC)), ("BSR", 0xBD)] {
            forms.append(
                InstructionForm(
                    mnemonic: name, opcode: [0x0F, opcode], sizes: v, shape: .modRM(.operand, .either), kind: .bitScan,
                    undefined: .bitScan))
        }
        forms.append(
            InstructionForm(
                mnemonic: "BSWAP", opcode: [0x0F, 0xC8], sizes: v, shape: .opcodeRegister, undefined: .result))
        return forms
    }()

    private static let moves: [InstructionForm] = {
        let either = InstructionForm.Shape.modRM(.operand, .either)
        let memory = InstructionForm.Shape.modRM(.operand, .memory)
        func form(
            _ name: String, _ opcode: [UInt8], _ sizes: [Int], _ shape: InstructionForm.Shape,
            _ immediate: InstructionForm.Immediate = .none, modes: [CodeMode] = CodeMode.allCases,
            kind: InstructionForm.Kind = .plain, lock: Bool = false
        ) -> InstructionForm {
            InstructionForm(
                mnemonic: name, opcode: opcode, sizes: sizes, modes: modes, shape: shape, immediate: immediate,
                kind: kind, takesLock: lock)
        }
        return [
            form("MOV", [0x88], [8], either), form("MOV", [0x89], v, either), form("MOV", [0x8A], [8], either),
            form("MOV", [0x8B], v, either), form("MOV", [0xB0], [8], .opcodeRegister, .byte),
            form("MOV", [0xB8], v, .opcodeRegister, .v), form("MOV", [0xC6], [8], .modRM(.digit(0), .either), .byte),
            form("MOV", [0xC7], v, .modRM(.digit(0), .either), .z), form("MOV", [0xA0], [8], .moffs),
            form("MOV", [0xA1], v, .moffs), form("MOV", [0xA2], [8], .moffs), form("MOV", [0xA3], v, .moffs),
            form("MOVZX", [0x0F, 0xB6], v, either), form("MOVZX", [0x0F, 0xB7], v, either),
            form("MOVSX", [0x0F, 0xBE], v, either), form("MOVSX", [0x0F, 0xBF], v, either),
            form("MOVSXD", [0x63], v, either, modes: [.bits64]),
            form("XCHG", [0x86], [8], either, lock: true), form("XCHG", [0x87], v, either, lock: true),
            form("XCHG", [0x90], v, .opcodeRegister),
            form("XADD", [0x0F, 0xC0], [8], either, lock: true), form("XADD", [0x0F, 0xC1], v, either, lock: true),
            form("CMPXCHG", [0x0F, 0xB0], [8], either, kind: .compareExchange, lock: true),
            form("CMPXCHG", [0x0F, 0xB1], v, either, kind: .compareExchange, lock: true),
            form("LEA", [0x8D], v, memory, kind: .load),
            InstructionForm(
                mnemonic: "CMPXCHG8B", opcode: [0x0F, 0xC7], sizes: [64], shape: .modRM(.digit(1), .memory),
                kind: .compareExchange8, takesLock: true),
            InstructionForm(
                mnemonic: "CMPXCHG16B", opcode: [0x0F, 0xC7], sizes: [128], modes: [.bits64],
                shape: .modRM(.digit(1), .memory), kind: .compareExchange16, takesLock: true, feature: .cmpxchg16b),
            form("XLAT", [0xD7], [8], .none, kind: .translate),
        ]
            + [0x18, 0x19, 0x1C, 0x1D, 0x1E, 0x1F].map {
                form("NOP", [0x0F, $0], v, .modRM(.ignored, .either), kind: .load)
            }
            + [form("NOP", [0x0F, 0x0D], v, .modRM(.ignored, .memory), kind: .load)]
            + [("CBW", 16), ("CWDE", 32), ("CDQE", 64)].map { form($0.0, [0x98], [$0.1], .none) }
            + [("CWD", 16), ("CDQ", 32), ("CQO", 64)].map { form($0.0, [0x99], [$0.1], .none) }
    }()

    static let conditions = [
        "O", "NO", "B", "NB", "Z", "NZ", "BE", "NBE", "S", "NS", "P", "NP", "L", "NL", "LE", "NLE",
    ]

    private static let conditional: [InstructionForm] = conditions.enumerated().flatMap { index, name in
        let code = UInt8(index)
        return [
            InstructionForm(
                mnemonic: "CMOV" + name, opcode: [0x0F, 0x40 + code], sizes: v, shape: .modRM(.operand, .either)),
            InstructionForm(
                mnemonic: "SET" + name, opcode: [0x0F, 0x90 + code], sizes: [8], shape: .modRM(.ignored, .either)),
            InstructionForm(
                mnemonic: "J" + name, opcode: [0x70 + code], sizes: v, immediate: .rel8, kind: .jump, defaults64: true),
            InstructionForm(
                mnemonic: "J" + name, opcode: [0x0F, 0x80 + code], sizes: v, immediate: .relZ, kind: .jump,
                defaults64: true),
        ]
    }

    private static let stack: [InstructionForm] = {
        func form(
            _ name: String, _ opcode: [UInt8], _ sizes: [Int], _ kind: InstructionForm.Kind,
            _ shape: InstructionForm.Shape = .none, _ immediate: InstructionForm.Immediate = .none,
            modes: [CodeMode] = CodeMode.allCases
        ) -> InstructionForm {
            InstructionForm(
                mnemonic: name, opcode: opcode, sizes: sizes, modes: modes, shape: shape, immediate: immediate,
                kind: kind, defaults64: true)
        }
        return [
            form("PUSH", [0x50], v, .push, .opcodeRegister), form("PUSH", [0xFF], v, .push, .modRM(.digit(6), .either)),
            form("PUSH", [0x68], v, .push, .none, .z), form("PUSH", [0x6A], v, .push, .none, .signedByte),
            form("POP", [0x58], v, .pop, .opcodeRegister), form("POP", [0x8F], v, .pop, .modRM(.digit(0), .either)),
            form("PUSH", [0x06], v, .pushSegment, modes: legacy), form("PUSH", [0x0E], v, .pushSegment, modes: legacy),
            form("PUSH", [0x16], v, .pushSegment, modes: legacy), form("PUSH", [0x1E], v, .pushSegment, modes: legacy),
            form("PUSH", [0x0F, 0xA0], v, .pushSegment), form("PUSH", [0x0F, 0xA8], v, .pushSegment),
            form("POP", [0x07], v, .popSegment, modes: legacy), form("POP", [0x17], v, .popSegment, modes: legacy),
            form("POP", [0x1F], v, .popSegment, modes: legacy),
            form("PUSHA", [0x60], [16], .pushAll, modes: legacy), form("PUSHAD", [0x60], [32], .pushAll, modes: legacy),
            form("POPA", [0x61], [16], .popAll, modes: legacy), form("POPAD", [0x61], [32], .popAll, modes: legacy),
            form("PUSHF", [0x9C], [16], .push), form("PUSHFD", [0x9C], [32], .push, modes: legacy),
            form("PUSHFQ", [0x9C], [64], .push, modes: [.bits64]),
            form("POPF", [0x9D], [16], .popFlags), form("POPFD", [0x9D], [32], .popFlags, modes: legacy),
            form("POPFQ", [0x9D], [64], .popFlags, modes: [.bits64]),
            form("ENTER", [0xC8], v, .enter, .none, .enter), form("LEAVE", [0xC9], v, .leave),
        ]
    }()

    private static let branches: [InstructionForm] = {
        func form(
            _ name: String, _ opcode: [UInt8], _ sizes: [Int], _ kind: InstructionForm.Kind,
            _ immediate: InstructionForm.Immediate = .none, _ shape: InstructionForm.Shape = .none,
            modes: [CodeMode] = CodeMode.allCases
        ) -> InstructionForm {
            InstructionForm(
                mnemonic: name, opcode: opcode, sizes: sizes, modes: modes, shape: shape, immediate: immediate,
                kind: kind, defaults64: true)
        }
        return [
            form("JMP", [0xEB], v, .jump, .rel8), form("JMP", [0xE9], v, .jump, .relZ),
            form("JMP", [0xFF], v, .jumpIndirect, .none, .modRM(.digit(4), .either)),
            form("CALL", [0xE8], v, .call, .relZ),
            form("CALL", [0xFF], v, .callIndirect, .none, .modRM(.digit(2), .either)),
            form("RET", [0xC3], v, .ret), form("RET", [0xC2], v, .retImmediate, .word),
            form("LOOPNE", [0xE0], v, .loop, .rel8), form("LOOPE", [0xE1], v, .loop, .rel8),
            form("LOOP", [0xE2], v, .loop, .rel8),
            // The size that counts is the address size; the row is that of the count register.
            form("JCXZ", [0xE3], [16], .loop, .rel8, modes: legacy), form("JECXZ", [0xE3], [32], .loop, .rel8),
            form("JRCXZ", [0xE3], [64], .loop, .rel8, modes: [.bits64]),
            form("INT", [0xCD], [0], .software, .byte), form("INT3", [0xCC], [0], .plain),
            form("INTO", [0xCE], [0], .plain, modes: legacy), form("UD2", [0x0F, 0x0B], [0], .plain),
            form("BOUND", [0x62], [16, 32], .bound, .none, .modRM(.operand, .memory), modes: legacy),
        ]
    }()

    private static let farTransfers: [InstructionForm] = {
        func form(
            _ name: String, _ opcode: [UInt8], _ sizes: [Int], _ kind: InstructionForm.Kind,
            _ immediate: InstructionForm.Immediate = .none, _ shape: InstructionForm.Shape = .none,
            modes: [CodeMode] = CodeMode.allCases
        ) -> InstructionForm {
            InstructionForm(
                mnemonic: name, opcode: opcode, sizes: sizes, modes: modes, shape: shape, immediate: immediate,
                kind: kind)
        }
        return [
            form("JMP far", [0xEA], [16, 32], .farDirect, .farPointer, modes: legacy),
            form("CALL far", [0x9A], [16, 32], .farDirect, .farPointer, modes: legacy),
            form("JMP far", [0xFF], [16, 32], .farIndirect, .none, .modRM(.digit(5), .memory)),
            form("CALL far", [0xFF], [16, 32], .farIndirect, .none, .modRM(.digit(3), .memory)),
            form("RETF", [0xCB], v, .farReturn), form("RETF", [0xCA], v, .farReturn, .word),
            form("IRET", [0xCF], [16], .interruptReturn), form("IRETD", [0xCF], [32], .interruptReturn),
            form("IRETQ", [0xCF], [64], .interruptReturn, modes: [.bits64]),
        ]
    }()

    private static let strings: [InstructionForm] = {
        let operations: [(String, UInt8, InstructionForm.StringOperation)] = [
            ("MOVS", 0xA4, .move), ("CMPS", 0xA6, .compare), ("STOS", 0xAA, .store), ("LODS", 0xAC, .load),
            ("SCAS", 0xAE, .scan),
        ]
        return operations.flatMap { name, opcode, operation in
            let repeats: [(String, UInt8?)] =
                operation == .compare || operation == .scan
                ? [("", nil), ("REPE ", 0xF3), ("REPNE ", 0xF2)] : [("", nil), ("REP ", 0xF3)]
            return repeats.flatMap { label, prefix in
                [(opcode, [8]), (opcode + 1, v)].map { opcode, sizes in
                    InstructionForm(
                        mnemonic: label + name, opcode: [opcode], prefix: prefix, sizes: sizes, kind: .string(operation)
                    )
                }
            }
        }
    }()

    private static let flagsAndDecimal: [InstructionForm] = {
        let plain: [(String, [UInt8])] = [
            ("CLC", [0xF8]), ("STC", [0xF9]), ("CMC", [0xF5]), ("CLD", [0xFC]), ("STD", [0xFD]), ("NOP", [0x90]),
            ("CLI", [0xFA]), ("STI", [0xFB]),
        ]
        let asciiUndefined = Flag.of | Flag.sf | Flag.zf | Flag.pf
        let decimal: [(String, UInt8, UInt64)] = [
            ("DAA", 0x27, Flag.of), ("DAS", 0x2F, Flag.of), ("AAA", 0x37, asciiUndefined),
            ("AAS", 0x3F, asciiUndefined),
            ("SALC", 0xD6, 0),
        ]
        let adjust = Flag.of | Flag.af | Flag.cf
        return plain.map { InstructionForm(mnemonic: $0.0, opcode: $0.1, sizes: [0]) }
            + decimal.map {
                InstructionForm(
                    mnemonic: $0.0, opcode: [$0.1], sizes: [8], modes: legacy,
                    undefined: $0.2 == 0 ? .none : .flags($0.2))
            } + [
                InstructionForm(
                    mnemonic: "AAM", opcode: [0xD4], sizes: [8], modes: legacy, immediate: .byte, kind: .adjustMultiply,
                    undefined: .flags(adjust)),
                InstructionForm(
                    mnemonic: "AAD", opcode: [0xD5], sizes: [8], modes: legacy, immediate: .byte,
                    undefined: .flags(adjust)),
                InstructionForm(mnemonic: "LAHF", opcode: [0x9F], sizes: [8], modes: legacy),
                InstructionForm(mnemonic: "SAHF", opcode: [0x9E], sizes: [8], modes: legacy),
                InstructionForm(mnemonic: "LAHF", opcode: [0x9F], sizes: [8], modes: [.bits64], feature: .lahf64),
                InstructionForm(mnemonic: "SAHF", opcode: [0x9E], sizes: [8], modes: [.bits64], feature: .lahf64),
            ]
    }()

    private static let segmentsAndSelectors: [InstructionForm] = {
        func form(
            _ name: String, _ opcode: [UInt8], _ sizes: [Int], _ shape: InstructionForm.Shape,
            _ kind: InstructionForm.Kind, modes: [CodeMode] = CodeMode.allCases
        ) -> InstructionForm {
            InstructionForm(mnemonic: name, opcode: opcode, sizes: sizes, modes: modes, shape: shape, kind: kind)
        }
        return [
            form("MOV from Sreg", [0x8C], v, .modRM(.segment, .either), .plain),
            form("MOV to Sreg", [0x8E], [16], .modRM(.segment, .either), .loadSegment),
            form("LES", [0xC4], [16, 32], .modRM(.operand, .memory), .loadFarPointer, modes: legacy),
            form("LDS", [0xC5], [16, 32], .modRM(.operand, .memory), .loadFarPointer, modes: legacy),
            form("LSS", [0x0F, 0xB2], [16, 32], .modRM(.operand, .memory), .loadFarPointer),
            form("LAR", [0x0F, 0x02], v, .modRM(.operand, .either), .selectorCheck),
            form("LSL", [0x0F, 0x03], v, .modRM(.operand, .either), .selectorCheck),
            form("VERR", [0x0F, 0x00], [16], .modRM(.digit(4), .either), .selectorCheck),
            form("VERW", [0x0F, 0x00], [16], .modRM(.digit(5), .either), .selectorCheck),
            form("ARPL", [0x63], [16], .modRM(.operand, .either), .selectorCheck, modes: legacy),
        ]
    }()

    private static let optional: [InstructionForm] = {
        let either = InstructionForm.Shape.modRM(.operand, .either)
        func vex(
            _ name: String, _ opcode: UInt8, _ map: UInt8, _ pp: UInt8, _ shape: InstructionForm.Shape,
            _ undefined: UInt64, _ feature: CPUFeature, _ immediate: InstructionForm.Immediate = .none
        ) -> InstructionForm {
            InstructionForm(
                mnemonic: name, opcode: [opcode], sizes: [32, 64], modes: [.bits32, .bits64], shape: shape,
                immediate: immediate, undefined: undefined == 0 ? .none : .flags(undefined),
                vex: VEX(map: map, pp: pp, hasThird: name != "RORX"), feature: feature)
        }
        let afPf = Flag.af | Flag.pf
        return [
            InstructionForm(
                mnemonic: "POPCNT", opcode: [0x0F, 0xB8], prefix: 0xF3, sizes: v, shape: either, feature: .popcnt),
            InstructionForm(
                mnemonic: "LZCNT", opcode: [0x0F, 0xBD], prefix: 0xF3, sizes: v, shape: either, kind: .bitScan,
                undefined: .flags(Flag.of | Flag.sf | Flag.pf | Flag.af), feature: .lzcnt),
            InstructionForm(
                mnemonic: "TZCNT", opcode: [0x0F, 0xBC], prefix: 0xF3, sizes: v, shape: either, kind: .bitScan,
                undefined: .flags(Flag.of | Flag.sf | Flag.pf | Flag.af), feature: .bmi1),
            InstructionForm(
                mnemonic: "MOVBE", opcode: [0x0F, 0x38, 0xF0], sizes: v, shape: .modRM(.operand, .memory),
                feature: .movbe),
            InstructionForm(
                mnemonic: "MOVBE", opcode: [0x0F, 0x38, 0xF1], sizes: v, shape: .modRM(.operand, .memory),
                feature: .movbe),
            InstructionForm(
                mnemonic: "ADCX", opcode: [0x66, 0x0F, 0x38, 0xF6], sizes: [32, 64], shape: either, feature: .adx),
            InstructionForm(
                mnemonic: "ADOX", opcode: [0x0F, 0x38, 0xF6], prefix: 0xF3, sizes: [32, 64], shape: either,
                feature: .adx),
            vex("ANDN", 0xF2, 2, 0, either, afPf, .bmi1),
            vex("BEXTR", 0xF7, 2, 0, either, afPf | Flag.sf, .bmi1),
            vex("BLSR", 0xF3, 2, 0, .modRM(.digit(1), .either), afPf, .bmi1),
            vex("BLSMSK", 0xF3, 2, 0, .modRM(.digit(2), .either), afPf, .bmi1),
            vex("BLSI", 0xF3, 2, 0, .modRM(.digit(3), .either), afPf, .bmi1),
            vex("BZHI", 0xF5, 2, 0, either, afPf, .bmi2),
            vex("MULX", 0xF6, 2, 3, either, 0, .bmi2), vex("PDEP", 0xF5, 2, 3, either, 0, .bmi2),
            vex("PEXT", 0xF5, 2, 2, either, 0, .bmi2), vex("RORX", 0xF0, 3, 3, either, 0, .bmi2, .shiftCount),
            vex("SARX", 0xF7, 2, 2, either, 0, .bmi2), vex("SHLX", 0xF7, 2, 1, either, 0, .bmi2),
            vex("SHRX", 0xF7, 2, 3, either, 0, .bmi2),
        ]
    }()
}
