// Makes system cases: a few instructions, and descriptors, gates, page tables and registers that make them say
// something. A seed gives the same cases for ever.

import TestSupport

/// What a case is about; the unit in which cases are counted.
enum SystemCaseKind: String, CaseIterable, Sendable {
    case interrupt = "INT n through any gate"
    case farPointer = "far CALL and JMP"
    case farReturn = "far RET"
    case interruptReturn = "IRET"
    case segmentLoad = "segment loads"
    case descriptorQuery = "LAR LSL VERR VERW"
    case systemSegments = "LLDT LTR SLDT STR SMSW SGDT SIDT"
    case fastCall = "SYSCALL SYSRET SYSENTER SYSEXIT"
    case modelSpecific = "RDMSR WRMSR SWAPGS and base instructions"
    case paging = "loads, stores and fetches through any entry"
    case flags = "POPF PUSHF CLI STI"
    case debug = "debug registers and breakpoints"
    case control = "control registers and privileged instructions"
    case inputOutput = "IN OUT by IOPL and permission map"
    case unavailable = "#NM and #UD"
    case extendedState = "XSAVE XRSTOR XGETBV XSETBV"
}

struct SystemCaseGenerator {
    var random: SeededGenerator
    var test = SystemCase(kind: .interrupt, mode: SystemMode.all[0])
    let defaults: SystemDefaults
    var mode: SystemMode { test.mode }

    init(seed: UInt64, defaults: SystemDefaults) {
        random = SeededGenerator(seed: seed)
        self.defaults = defaults
    }

    mutating func next() -> SystemCase {
        let kinds = SystemCaseKind.allCases
        test = SystemCase(kind: kinds[below(kinds.count)], mode: SystemMode.all[below(SystemMode.all.count)])
        for number in 0..<16 where number != 4 { set(number, word()) }
        // DF stays clear for what the driver copies, VM and RF are no business of long mode.
        put(word() & (chance(16) ? 0x20_7BD5 : 0x20_7AD5) | 2, at: CasePage.rflags)
        if !chance(4) { clearFlags(0x4000) }
        switch test.kind {
        case .interrupt: interrupt()
        case .farPointer: farPointer()
        case .farReturn: farReturn()
        case .interruptReturn: interruptReturn()
        case .segmentLoad: segmentLoad()
        case .descriptorQuery: descriptorQuery()
        case .systemSegments: systemSegments()
        case .fastCall: fastCall()
        case .modelSpecific: modelSpecific()
        case .paging: paging()
        case .flags: flags()
        case .debug: debug()
        case .control: control()
        case .inputOutput: inputOutput()
        case .unavailable: unavailable()
        case .extendedState: extendedState()
        }
        return test
    }

    // MARK: - Chance

    mutating func word() -> UInt64 { random.next() }
    mutating func below(_ count: Int) -> Int { Int(word() % UInt64(count)) }
    mutating func chance(_ oneIn: Int) -> Bool { below(oneIn) == 0 }
    mutating func pick<Value>(_ values: [Value]) -> Value { values[below(values.count)] }

    // MARK: - State

    mutating func put(_ value: UInt64, at offset: Int, bytes: Int = 8) {
        let change = SystemCase.Change(offset: offset, bytes: value.littleEndianBytes(bytes))
        if let place = test.changes.firstIndex(where: { $0.offset == offset && $0.bytes.count == bytes }) {
            test.changes[place] = change
        } else {
            test.changes.append(change)
        }
    }

    /// The value that the case has at an offset so far; nil where it is the usual one.
    func value(at offset: Int) -> UInt64? {
        test.changes.last { $0.offset == offset }?.bytes.littleEndian
    }

    mutating func set(_ register: Int, _ value: UInt64) { put(value, at: CasePage.registers + register * 8) }

    mutating func clearFlags(_ flags: UInt64) { put((value(at: CasePage.rflags) ?? 2) & ~flags, at: CasePage.rflags) }

    mutating func emit(_ bytes: UInt8...) { test.code += bytes }

    /// Operand size of an instruction that follows: 16, 32, or 64 where the mode has it.
    mutating func emitSize(_ size: Int) {
        switch (mode.code, size) {
        case (.bits64, 64): emit(0x48)
        case (.bits16, 32), (.bits32, 16), (.bits64, 16): emit(0x66)
        default: break
        }
    }

    mutating func anySize() -> Int { pick(mode.code == .bits64 ? [16, 32, 64] : [16, 32]) }

    /// Opcode with a ModRM of memory at (R/E)DI, which then is `address`.
    mutating func emitMemory(_ opcode: [UInt8], _ digit: UInt8, at address: UInt64, size: Int) {
        if mode.code == .bits16 { emit(0x67) }
        emitSize(size)
        test.code += opcode + [digit << 3 | 7]
        set(7, address)
    }

    /// Linear address of the operands' place in the data page.
    var operandAddress: UInt64 { CaseWindow.data(user: mode.isUser) + UInt64(SystemStack.operands) }

    mutating func putOperand(_ value: UInt64, bytes: Int = 8, offset: Int = 0) {
        put(value, at: CasePage.data + SystemStack.operands + offset, bytes: bytes)
    }

    /// Words from the top of the stack on.
    mutating func putStack(_ values: [UInt64], size: Int) {
        for (index, value) in values.enumerated() {
            put(value, at: CasePage.data + SystemStack.top + index * size / 8, bytes: size / 8)
        }
    }

    // MARK: - Descriptors

    /// A selector for CS, a data segment or a system segment, and most often a descriptor made for it.
    ///
    /// - Parameter mayBeAbsent: whether what it names may be not present.
    mutating func selector(system: Bool = false, mayBeAbsent: Bool = true) -> UInt16 {
        if chance(24) { return UInt16(below(4)) }
        if chance(24) { return UInt16(word() & 0xFFFF) }
        if chance(6) {
            return pick([
                SystemSelector.code64, SystemSelector.data, SystemSelector.code32, SystemSelector.userCode32,
                SystemSelector.userData, SystemSelector.userCode64, SystemSelector.userCode16,
                SystemSelector.code16,
            ])
        }
        let level = UInt16(below(4)), isLocal = chance(6)
        let first = isLocal ? 0 : Int(SystemSelector.firstRandom) / 8
        let index = first + below((isLocal ? 15 : 31) - first)
        let table = isLocal ? CasePage.ldt : CasePage.gdt
        let isSystem = system ? !chance(4) : chance(8)
        let descriptor = isSystem ? systemDescriptor() : segmentDescriptor()
        put(mayBeAbsent ? descriptor : descriptor | 1 << 47, at: table + index * 8)
        // The upper half of a system descriptor; a plain one has none.
        if isSystem { put(0, at: table + index * 8 + 8) }
        return UInt16(index) << 3 | (isLocal ? 4 : 0) | level
    }

    /// Code or data with base 0 and all of 4 GiB: TCG checks no limits. Accessed, but for plain loads: it marks no
    /// others. Never both L and D: it does not refuse that.
    mutating func segmentDescriptor() -> UInt64 {
        let type = UInt64(below(16)) | (test.kind == .segmentLoad ? 0 : 1),
            level = UInt64(chance(2) ? (mode.isUser ? 3 : 0) : below(4))
        let width: UInt64 = type & 8 != 0 ? pick([0, 0x40_0000, 0x20_0000, 0x20_0000]) : 0x40_0000
        // Which of #GP and #NP is first for a gate to what is no 64-bit code, TCG has otherwise.
        let isPresent = !chance(8) || test.kind == .interrupt && width != 0x20_0000
        let high = 0x8F_1000 | width | type << 8 | level << 13 | (isPresent ? 0x8000 : 0)
        return high << 32 | 0xFFFF
    }

    /// An LDT, a TSS, a gate, or nothing of long mode's.
    mutating func systemDescriptor() -> UInt64 {
        let level = UInt64(chance(2) ? 3 : below(4)), present: UInt64 = chance(8) ? 0 : 0x8000
        var type = UInt64(chance(4) ? below(16) : pick([2, 9, 11, 12, 12]))
        // To LAR, LSL and LTR of TCG, types of 16 bits are valid in long mode too.
        if test.kind == .descriptorQuery || test.kind == .systemSegments, [1, 3, 4, 5].contains(type) { type = 2 }
        guard type == 12 else {
            let base = DriverMemory.tables + (type == 2 ? 0x100 : 0x180)
            return (type << 8 | level << 13 | present) << 32 | base << 16 | 0x7F
        }
        let offset = target(inner: true)
        return SystemGate(
            selector: plainSelector(), offset: offset, type: 12, level: level, isPresent: present != 0
        ).low
    }

    /// A selector that makes no further descriptor.
    mutating func plainSelector() -> UInt16 {
        pick([
            SystemSelector.code64, SystemSelector.code64, SystemSelector.code64 | 3, SystemSelector.userCode64,
            SystemSelector.code32, SystemSelector.data, 0, 0x70, 0x80, 0x90, 0xA4, 0xF8, 0x104,
        ])
    }

    /// Where code goes on: a page of INT3, or somewhere that is none. Of 16 bits where the operand has no more.
    mutating func target(inner: Bool = false, size: Int = 64) -> UInt64 {
        guard size > 16 else { return DriverMemory.lowBreakpoints + UInt64(below(0x1000)) }
        let user = inner ? chance(6) : (chance(6) ? !mode.isUser : mode.isUser)
        let page = CaseWindow.code(user: user) + 0x100 + UInt64(below(16))
        // Canonical all the same: TCG goes there, and faults then.
        return chance(24) ? 0x7000_0000 : page
    }
}
