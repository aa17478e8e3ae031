// The dispatch: one switch from operation to handler. Handlers live in the files named in Operation.

import NVMM

extension CPU {
    // MARK: - Hot loop

    /// Executes from ``cursor`` to ``blockEnd``, and leaves RIP at the next instruction.
    ///
    /// - Throws: what the instruction before ``cursor`` raised.
    mutating func executeBlock() throws(Interruption) {
        repeat {
            let place = cursor
            cursor = place.advanced(by: 1)
            try execute(place.instruction)
        } while cursor != blockEnd
        let last = cursor.advanced(by: -1)
        if !last.instruction.flags.contains(.writesRIP) {
            rip = nextRIP(last.instruction)
        }
    }

    @inline(__always) private mutating func execute(_ i: borrowing DecodedInstruction) throws(Interruption) {
        switch i.operation {
        case .invalid: try invalid(i)

        case .add: try add(i)
        case .or: try or(i)
        case .adc: try adc(i)
        case .sbb: try sbb(i)
        case .and: try and(i)
        case .sub: try sub(i)
        case .xor: try xor(i)
        case .cmp: try cmp(i)
        case .test: try test(i)
        case .inc: try inc(i)
        case .dec: try dec(i)
        case .neg: try neg(i)
        case .not: try not(i)
        case .addRegisterImmediate32: write(i.register0, status.add(read(i.register0), UInt32(truncatingIfNeeded: i.immediate)))
        case .subRegisterImmediate32: write(i.register0, status.subtract(read(i.register0), UInt32(truncatingIfNeeded: i.immediate)))
        case .cmpRegisterImmediate32: _ = status.subtract(read(i.register0), UInt32(truncatingIfNeeded: i.immediate))
        case .incRegister32: write(i.register0, status.increment(read(i.register0, as: UInt32.self)))
        case .decRegister32: write(i.register0, status.decrement(read(i.register0, as: UInt32.self)))
        case .addRegisterRegister32: write(i.register0, status.add(read(i.register0, as: UInt32.self), read(i.register1)))
        case .cmpRegisterRegister32: _ = status.subtract(read(i.register0, as: UInt32.self), read(i.register1))
        case .testRegisterRegister32: status.setLogical(result: read(i.register0, as: UInt32.self) & read(i.register1))
        case .xorRegisterRegister32:
            let result: UInt32 = read(i.register0) ^ read(i.register1)
            status.setLogical(result: result)
            write(i.register0, result)

        case .mov: try mov(i)
        case .movRegisterRegister32: write(i.register0, read(i.register1, as: UInt32.self))
        case .movRegisterMemory32: write(i.register0, try loadOperand(i, as: UInt32.self))
        case .movMemoryRegister32: try storeOperand(i, read(i.register0, as: UInt32.self))
        case .movRegisterImmediate32: write(i.register0, UInt32(truncatingIfNeeded: i.immediate))
        case .movzx: try movzx(i)
        case .movsx: try movsx(i)
        case .lea: lea(i)
        case .xchg: try xchg(i)
        case .xadd: try xadd(i)
        case .cmpxchg: try cmpxchg(i)
        case .cmpxchg8b: try cmpxchg8b(i)
        case .cmpxchg16b: try cmpxchg16b(i)
        case .cmov: try cmov(i)
        case .setcc: try setcc(i)
        case .bswap: bswap(i)
        case .xlat: try xlat(i)
        case .nop: break
        case .cbw: cbw(i)
        case .cwd: cwd(i)
        case .lahf: lahf()
        case .sahf: sahf()
        case .clc: status.set(carry: false)
        case .stc: status.set(carry: true)
        case .cmc: status.set(carry: !status.carry)
        case .cld: systemFlags &= ~RFLAGS.df
        case .std: systemFlags |= RFLAGS.df
        case .salc: write(0, status.carry ? UInt8(0xFF) : 0)

        case .push: try push(i)
        case .pop: try pop(i)
        case .pusha: try pusha(i)
        case .popa: try popa(i)
        case .pushf: try pushf(i)
        case .popf: try popf(i)
        case .enter: try enter(i)
        case .leave: try leave(i)

        case .jmp: try jmp(i)
        case .jcc: try jcc(i)
        case .call: try call(i)
        case .ret: try ret(i)
        case .jcxz: try jcxz(i)
        case .loop, .loope, .loopne: try loop(i)

        default: try executeRare(i)
        }
    }

    /// The rest of the instruction set, out of the hot switch.
    @inline(never) private mutating func executeRare(_ i: borrowing DecodedInstruction) throws(Interruption) {
        switch i.operation {
        case .rol: try rol(i)
        case .ror: try ror(i)
        case .rcl: try rcl(i)
        case .rcr: try rcr(i)
        case .shl: try shl(i)
        case .shr: try shr(i)
        case .sar: try sar(i)
        case .shld: try shld(i)
        case .shrd: try shrd(i)
        case .mul: try mul(i)
        case .imul: try imul(i)
        case .imul2: try imul2(i)
        case .imul3: try imul3(i)
        case .div: try div(i)
        case .idiv: try idiv(i)
        case .bt: try bt(i)
        case .bts: try bts(i)
        case .btr: try btr(i)
        case .btc: try btc(i)
        case .bsf: try bsf(i)
        case .bsr: try bsr(i)
        case .daa: daa()
        case .das: das()
        case .aaa: aaa()
        case .aas: aas()
        case .aam: try aam(i)
        case .aad: aad(i)
        case .bound: try bound(i)

        case .movs: try movs(i)
        case .cmps: try cmps(i)
        case .stos: try stos(i)
        case .lods: try lods(i)
        case .scas: try scas(i)

        case .in: try input(i)
        case .out: try output(i)
        case .ins: try ins(i)
        case .outs: try outs(i)

        case .callFar: try callFar(i)
        case .jmpFar: try jmpFar(i)
        case .retFar: try retFar(i)
        case .iret: try iret(i)
        case .int: try softwareInterrupt(i, vector: UInt8(truncatingIfNeeded: i.immediate))
        case .int3: try softwareInterrupt(i, vector: 3)
        case .int1: try int1(i)
        case .into: try into(i)

        case .movToSegment: try movToSegment(i)
        case .movFromSegment: try movFromSegment(i)
        case .pushSegment: try pushSegment(i)
        case .popSegment: try popSegment(i)
        case .loadFarPointer: try loadFarPointer(i)
        case .lldt: try lldt(i)
        case .ltr: try ltr(i)
        case .sldt: try sldt(i)
        case .str: try str(i)
        case .lar: try lar(i)
        case .lsl: try lsl(i)
        case .verr: try verify(i, forWriting: false)
        case .verw: try verify(i, forWriting: true)
        case .arpl: try arpl(i)

        case .syscall: try syscall(i)
        case .sysret: try sysret(i)
        case .sysenter: try sysenter(i)
        case .sysexit: try sysexit(i)

        case .movToCR: try movToCR(i)
        case .movFromCR: try movFromCR(i)
        case .movToDR: try movToDR(i)
        case .movFromDR: try movFromDR(i)
        case .lmsw: try lmsw(i)
        case .smsw: try smsw(i)
        case .clts: try clts(i)
        case .lgdt: try loadTable(i, .gdt)
        case .lidt: try loadTable(i, .idt)
        case .sgdt: try storeTable(i, .gdt)
        case .sidt: try storeTable(i, .idt)
        case .invlpg: try invlpg(i)
        case .invd: try invd(i)
        case .wbinvd: try wbinvd(i)
        case .cli: try cli(i)
        case .sti: try sti(i)
        case .hlt: try hlt(i)
        case .cpuid: try cpuid(i)
        case .rdtsc: try rdtsc(i)
        case .rdmsr: try rdmsr(i)
        case .wrmsr: try wrmsr(i)
        case .swapgs: try swapgs(i)
        case .stac: try stac(i)
        case .clac: try clac(i)
        case .monitor: try monitor(i)
        case .mwait: try mwait(i)
        case .xgetbv: try xgetbv(i)
        case .xsetbv: try xsetbv(i)

        case .fxsave: try fxsave(i)
        case .fxrstor: try fxrstor(i)
        case .fninit: try fninit(i)
        case .fnstcw: try fnstcw(i)
        case .fldcw: try fldcw(i)
        case .fnstsw: try fnstsw(i)
        case .fnclex: try fnclex(i)
        case .fwait: try fwait(i)
        case .ldmxcsr: try ldmxcsr(i)
        case .stmxcsr: try stmxcsr(i)

        default: throw .invalidOpcode
        }
    }

    /// Counted by mnemonic, so that a user learns what a guest needed and did not get.
    private mutating func invalid(_ i: borrowing DecodedInstruction) throws(Interruption) {
        if i.mnemonic != 0 { unsupported[i.mnemonic, default: 0] += 1 }
        throw .invalidOpcode
    }
}
