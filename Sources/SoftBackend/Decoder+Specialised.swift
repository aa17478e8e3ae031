// The forms that make up most of what guests execute: one operation each, so that the loop dispatches once.

extension Decoder {
    /// Replaces a general operation by the one for exactly this width and form, where there is one.
    func specialise(_ i: inout InstructionRecord) {
        switch i.width {
        case 0: i.operation = specialised8(i)
        case 2: i.operation = specialised32(i)
        case 3: i.operation = specialised64(i)
        default: break
        }
        switch i.operation {
        case .jcc: i.operation = specialisedBranch(i)
        case .jmp where i.form == .immediate: i.operation = .jmpRelative
        // A transfer has the width of the mode in 64-bit code, whatever the prefixes.
        case .call where i.form == .immediate && codeWidth == 3: i.operation = .callRelative64
        case .call where i.form == .immediate && i.width == 2: i.operation = .callRelative32
        case .ret where i.form == .none && codeWidth == 3: i.operation = .ret64
        case .ret where i.form == .none && i.width == 2: i.operation = .ret32
        default: break
        }
    }

    private func specialised8(_ i: InstructionRecord) -> Operation {
        switch (i.operation, i.form) {
        case (.cmp, .registerImmediate): .cmpRegisterImmediate8
        case (.cmp, .registerRegister): .cmpRegisterRegister8
        case (.cmp, .memoryImmediate): .cmpMemoryImmediate8
        case (.test, .registerImmediate): .testRegisterImmediate8
        case (.test, .registerRegister): .testRegisterRegister8
        case (.mov, .registerRegister): .movRegisterRegister8
        case (.mov, .registerMemory): .movRegisterMemory8
        case (.mov, .memoryRegister): .movMemoryRegister8
        case (.mov, .registerImmediate): .movRegisterImmediate8
        case (.mov, .memoryImmediate): .movMemoryImmediate8
        default: i.operation
        }
    }

    /// MOVZX to 32 and 64 bits clears all above the source, so that one operation serves both.
    private func specialisedExtension(_ i: InstructionRecord) -> Operation {
        switch (i.operation, i.width1, i.form) {
        case (.movzx, 0, .registerRegister): .movzxRegister8
        case (.movzx, 0, _): .movzxMemory8
        case (.movzx, 1, .registerRegister): .movzxRegister16
        case (.movzx, 1, _): .movzxMemory16
        case (.movsx, 2, .registerRegister) where i.width == 3: .movsxdRegister
        case (.movsx, 2, _) where i.width == 3: .movsxdMemory
        default: i.operation
        }
    }

    private func specialised32(_ i: InstructionRecord) -> Operation {
        let shiftsImmediate = i.form == .registerImmediate && i.immediate & 31 != 0
        return switch (i.operation, i.form) {
        case (.add, .registerImmediate): .addRegisterImmediate32
        case (.sub, .registerImmediate): .subRegisterImmediate32
        case (.and, .registerImmediate): .andRegisterImmediate32
        case (.or, .registerImmediate): .orRegisterImmediate32
        case (.cmp, .registerImmediate): .cmpRegisterImmediate32
        case (.test, .registerImmediate): .testRegisterImmediate32
        case (.inc, .register): .incRegister32
        case (.dec, .register): .decRegister32
        case (.add, .registerRegister): .addRegisterRegister32
        case (.sub, .registerRegister): .subRegisterRegister32
        case (.and, .registerRegister): .andRegisterRegister32
        case (.or, .registerRegister): .orRegisterRegister32
        case (.xor, .registerRegister): .xorRegisterRegister32
        case (.cmp, .registerRegister): .cmpRegisterRegister32
        case (.test, .registerRegister): .testRegisterRegister32
        case (.add, .registerMemory): .addRegisterMemory32
        case (.cmp, .registerMemory): .cmpRegisterMemory32
        case (.cmp, .memoryRegister): .cmpMemoryRegister32
        case (.cmp, .memoryImmediate): .cmpMemoryImmediate32
        case (.mov, .registerRegister): .movRegisterRegister32
        case (.mov, .registerMemory): .movRegisterMemory32
        case (.mov, .memoryRegister): .movMemoryRegister32
        case (.mov, .registerImmediate): .movRegisterImmediate32
        case (.mov, .memoryImmediate): .movMemoryImmediate32
        case (.movzx, _), (.movsx, _): specialisedExtension(i)
        case (.lea, _): .lea32
        case (.push, .register): .pushRegister32
        case (.pop, .register): .popRegister32
        case (.shl, _) where shiftsImmediate: .shlRegisterImmediate32
        case (.shr, _) where shiftsImmediate: .shrRegisterImmediate32
        case (.sar, _) where shiftsImmediate: .sarRegisterImmediate32
        default: i.operation
        }
    }

    private func specialised64(_ i: InstructionRecord) -> Operation {
        let shiftsImmediate = i.form == .registerImmediate && i.immediate & 63 != 0
        return switch (i.operation, i.form) {
        case (.add, .registerImmediate): .addRegisterImmediate64
        case (.sub, .registerImmediate): .subRegisterImmediate64
        case (.and, .registerImmediate): .andRegisterImmediate64
        case (.or, .registerImmediate): .orRegisterImmediate64
        case (.cmp, .registerImmediate): .cmpRegisterImmediate64
        case (.test, .registerImmediate): .testRegisterImmediate64
        case (.inc, .register): .incRegister64
        case (.dec, .register): .decRegister64
        case (.add, .registerRegister): .addRegisterRegister64
        case (.sub, .registerRegister): .subRegisterRegister64
        case (.and, .registerRegister): .andRegisterRegister64
        case (.or, .registerRegister): .orRegisterRegister64
        case (.xor, .registerRegister): .xorRegisterRegister64
        case (.cmp, .registerRegister): .cmpRegisterRegister64
        case (.test, .registerRegister): .testRegisterRegister64
        case (.add, .registerMemory): .addRegisterMemory64
        case (.cmp, .registerMemory): .cmpRegisterMemory64
        case (.cmp, .memoryRegister): .cmpMemoryRegister64
        case (.mov, .registerRegister): .movRegisterRegister64
        case (.mov, .registerMemory): .movRegisterMemory64
        case (.mov, .memoryRegister): .movMemoryRegister64
        case (.mov, .registerImmediate): .movRegisterImmediate64
        case (.mov, .memoryImmediate): .movMemoryImmediate64
        case (.movzx, _), (.movsx, _): specialisedExtension(i)
        case (.lea, _): .lea64
        case (.push, .register): .pushRegister64
        case (.pop, .register): .popRegister64
        case (.shl, _) where shiftsImmediate: .shlRegisterImmediate64
        case (.shr, _) where shiftsImmediate: .shrRegisterImmediate64
        case (.sar, _) where shiftsImmediate: .sarRegisterImmediate64
        default: i.operation
        }
    }

    private func specialisedBranch(_ i: InstructionRecord) -> Operation {
        switch i.condition {
        case 2: .jc
        case 3: .jnc
        case 4: .jz
        case 5: .jnz
        case 6: .jbe
        case 7: .jnbe
        case 8: .js
        case 9: .jns
        case 12: .jl
        case 13: .jnl
        case 14: .jle
        case 15: .jnle
        default: .jcc
        }
    }
}
