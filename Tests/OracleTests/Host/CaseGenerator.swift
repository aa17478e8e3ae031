// Makes cases: for an encoding, a mode and an operand size, the bytes and a state that makes them say something.
// A seed gives the same cases for ever.

import CHostOracle
import TestSupport

/// One row of the coverage table that the host can check: all encodings of a mnemonic at one size in one mode.
struct HostRow: Hashable, Sendable {
    var mnemonic: String
    /// Bits; 0 where the instruction has no operand size.
    var size: Int
    var mode: CodeMode
}

extension InstructionTable {
    /// Sizes that exist in `mode`: no 64-bit operands outside 64-bit mode, no 32-bit pushes inside.
    static func sizes(of form: InstructionForm, in mode: CodeMode) -> [Int] {
        form.sizes.filter { size in
            if size == 64, mode != .bits64 { return form.mnemonic == "CMPXCHG8B" }
            guard mode == .bits64 else { return true }
            // SDM and APM differ on near branches with a 16-bit operand in 64-bit mode: no oracle there.
            if size == 16, form.isNearBranch { return false }
            return !(form.defaults64 && size == 32 && form.mnemonic != "JECXZ")
        }
    }

    /// Every row with its encodings, ordered by mnemonic, size, mode.
    static let rows: [(row: HostRow, forms: [InstructionForm])] = {
        var table: [HostRow: [InstructionForm]] = [:]
        for form in forms {
            for mode in form.modes {
                for size in sizes(of: form, in: mode) {
                    table[HostRow(mnemonic: form.mnemonic, size: size, mode: mode), default: []].append(form)
                }
            }
        }
        return table.sorted { left, right in
            (left.key.mnemonic, left.key.size, left.key.mode.rawValue)
                < (right.key.mnemonic, right.key.size, right.key.mode.rawValue)
        }.map { (row: $0.key, forms: $0.value) }
    }()
}

extension InstructionForm {
    /// The instruction goes somewhere, where the next fetch may fault, or retires into a handler: one instruction
    /// more must run before the two machines stand at the same place.
    var leavesItsSlotLine: Bool {
        switch kind {
        case .farDirect, .farIndirect, .farReturn, .interruptReturn, .software: true
        default: isNearBranch || ["INT3", "INTO"].contains(mnemonic)
        }
    }

    var isVector: Bool {
        if case .vector = kind { true } else { false }
    }

    var isNearBranch: Bool {
        switch kind {
        case .jump, .jumpIndirect, .call, .callIndirect, .ret, .retImmediate, .loop: true
        default: false
        }
    }
}

/// Makes the cases of a seed.
struct CaseGenerator {
    var random: SeededGenerator
    // The case being made.
    var test = OracleCase(mode: .bits64)
    var mode: CodeMode { test.mode }
    var size = 0
    var form = InstructionForm(mnemonic: "", opcode: [], sizes: [])
    /// Linear address that offset 0 of the data segments stands for, by segment.
    var isFlat = true
    var slot = 0
    /// Where the memory operand lies in the data window, if there is one that was aimed.
    var target: Int?
    var stackOffset = 0
    var addressBits = 64
    var hasMemoryOperand = false
    // What the encoder chose.
    var operandRegister: Int?
    var rmRegister: Int?
    var thirdRegister: Int?
    /// A vector register.
    var indexRegister: Int?
    var addressRegisters: [Int] = []
    /// Linear address that a RIP-relative operand must meet.
    var ripRelative: UInt64?

    init(seed: UInt64) { random = SeededGenerator(seed: seed) }

    // MARK: - Chance

    mutating func below(_ bound: Int) -> Int { Int(truncatingIfNeeded: random.next() % UInt64(bound)) }
    mutating func chance(_ percent: Int) -> Bool { below(100) < percent }
    mutating func pick<Element>(_ choices: [Element]) -> Element { choices[below(choices.count)] }

    /// A value whose bits matter: ends of ranges, single bits, small numbers, or anything.
    mutating func value(bits: Int) -> UInt64 {
        let mask = bits >= 64 ? UInt64.max : (1 << UInt64(bits)) - 1
        let sign = UInt64(1) << UInt64(bits - 1)
        switch below(12) {
        case 0: return 0
        case 1: return 1
        case 2: return mask
        case 3: return sign
        case 4: return sign - 1
        case 5: return UInt64(1) << UInt64(below(bits))
        case 6: return UInt64(below(256))
        case 7: return mask &- UInt64(below(256))
        case 8: return random.next() & 0x0F0F_0F0F_0F0F_0F0F & mask
        default: return random.next() & mask
        }
    }

    /// A number in which something may go wrong: zeros, denormals, the ends of the range, infinities, NaNs, whole
    /// numbers, and others near 1 or near each other.
    mutating func float(bits: Int) -> UInt64 {
        let fractionBits = UInt64(bits == 32 ? 23 : 52)
        let fractionMask = UInt64(1) << fractionBits - 1
        let exponentMax = bits == 32 ? 0xFF : 0x7FF
        let sign = random.next() & UInt64(1) << UInt64(bits - 1)
        func number(_ exponent: Int, _ fraction: UInt64) -> UInt64 {
            sign | UInt64(exponent) << fractionBits | fraction & fractionMask
        }
        let fraction = pick([0, 1, fractionMask, fractionMask ^ 1, fractionMask / 2 + 1, random.next(), random.next()])
        let bias = exponentMax / 2
        switch below(14) {
        case 0: return number(0, 0)
        case 1: return number(0, fraction)
        case 2: return number(1 + below(3), fraction)
        case 3: return number(exponentMax - 1 - below(3), fraction)
        case 4: return number(exponentMax, 0)
        case 5: return number(exponentMax, fraction | UInt64(1) << (fractionBits - 1))
        case 6: return number(exponentMax, random.next() & (fractionMask >> 1) | 1)
        case 7, 8: return number(bias + below(70) - 2, fraction & ~(fractionMask >> UInt64(below(Int(fractionBits)))))
        case 9: return number(bias / 2 + below(6), fraction)
        case 10: return number(below(exponentMax), random.next())
        default: return number(bias + below(9) - 4, fraction)
        }
    }

    // MARK: - One case

    /// - Parameter slot: where in the batch the case will stand.
    mutating func make(_ form: InstructionForm, size: Int, mode: CodeMode, slot: Int) -> OracleCase {
        self.form = form
        self.size = size
        self.slot = slot
        test = OracleCase(mode: mode)
        target = nil
        hasMemoryOperand = false
        operandRegister = nil
        rmRegister = nil
        thirdRegister = nil
        indexRegister = nil
        addressRegisters = []
        ripRelative = nil
        chooseSegments()
        for index in 0..<16 {
            // Half of the values are interesting at the operand's own width, garbage above it.
            let bits = size == 0 || size >= 128 ? 64 : size
            let high = chance(50) ? random.next() : 0
            test.state.gprs[index] =
                chance(60) ? value(bits: bits) | (bits < 64 ? high << UInt64(bits) : 0) : value(bits: 64)
        }
        stackOffset = chance(4) ? pick([0x5000, 0x5002, 0x5008, 0x7000, 0x6FFC, 0x6FF8]) : 0x5400 + below(0x180) * 16
        if chance(3) { stackOffset += below(16) }
        // In which order a frame is popped is the processor's choice, so it must not fault halfway.
        if popsFrame, stackOffset >= 0x6F00 { stackOffset = 0x6400 }
        if mode == .bits16, chance(1), !popsFrame { stackOffset = pick([0, 1, 2, 4, 0xFFFE]) }
        setStackPointer(stackOffset)
        test.state.rflags = 0x202 | random.next() & Flag.arithmetic
        if chance(25) { test.state.rflags |= Flag.df }
        if chance(2), alignmentIsPlain { test.state.rflags |= Flag.ac }
        addressBits = chance(12) ? (mode == .bits16 ? 32 : mode == .bits32 ? (isFlat ? 32 : 16) : 32) : mode.rawValue
        prepareBefore()
        encode()
        prepareAfter()
        decideUndefined()
        if form.leavesItsSlotLine { test.runsToHalt = true }
        if mode != .bits64 {
            // Only RSP's upper half could tell, and a 32-bit segment loads 32 bits of it.
            for index in 0..<8 { test.state.gprs[index] &= 0xFFFF_FFFF }
        }
        test.state.rip = Window.entry(slot: slot, cs: test.state.cs)
        return test
    }

    /// With AC set, what is checked at which width is only clear for plain operands.
    private var alignmentIsPlain: Bool { form.kind == .plain && form.mnemonic != "BOUND" }

    private var popsFrame: Bool {
        switch form.kind {
        case .farReturn, .interruptReturn, .popAll: true
        default: false
        }
    }

    private mutating func chooseSegments() {
        switch mode {
        case .bits64:
            isFlat = true
            test.state.cs = HOST_CODE64.selector
            test.state.ss = HOST_DATA.selector
        case .bits32:
            isFlat = chance(50)
            test.state.cs = chance(50) ? HOST_CODE32.selector : HOST_LDT_CODE32.selector
            if isFlat {
                test.state.ds = HOST_DATA.selector
                test.state.es = HOST_DATA.selector
                test.state.ss = HOST_DATA.selector
            } else {
                test.state.ss = chance(80) ? HOST_LDT_DATA_BIG.selector : HOST_LDT_DATA16.selector
                test.state.ds = chooseDataSegment(HOST_LDT_DATA_BIG.selector)
                test.state.es = chooseDataSegment(HOST_LDT_DATA_BIG.selector)
            }
        case .bits16:
            isFlat = false
            test.state.cs = HOST_LDT_CODE16.selector
            test.state.ss = chance(80) ? HOST_LDT_DATA16.selector : HOST_LDT_DATA_BIG.selector
            test.state.ds = chooseDataSegment(HOST_LDT_DATA16.selector)
            test.state.es = chooseDataSegment(HOST_LDT_DATA16.selector)
        }
    }

    private mutating func chooseDataSegment(_ usual: UInt16) -> UInt16 {
        switch below(40) {
        case 0, 1: HOST_LDT_SHORT.selector
        case 2, 3: HOST_LDT_EXPAND_DOWN.selector
        case 4: HOST_LDT_READ_ONLY.selector
        case 5: 0
        default: usual
        }
    }

    var stackBits: Int {
        mode == .bits64 ? 64 : test.state.ss == HOST_LDT_DATA16.selector ? 16 : 32
    }

    mutating func setStackPointer(_ offset: Int) {
        let linear = UInt64(offset) + (isFlat ? Window.dataBase : 0)
        let keep = stackBits == 16 ? test.state.gprs[4] & 0xFFFF_0000 : 0
        test.state.gprs[4] = keep | linear
    }

    mutating func patch(_ offset: Int, _ bytes: [UInt8]) {
        guard offset >= 0, !bytes.isEmpty, bytes.count <= 64, test.patches.count < 3 else { return }
        let last = offset + bytes.count - 1
        guard last < Window.byteCount, Self.isWritable(offset), Self.isWritable(last) else { return }
        // Two patches over each other would leave the earlier one's bytes behind when they are taken back.
        for other in test.patches where Int(other.offset) <= last && offset < Int(other.offset) + other.bytes.count {
            return
        }
        test.patches.append(OraclePatch(offset: UInt16(offset), bytes: bytes))
    }

    mutating func patch(_ offset: Int, value: UInt64, bytes: Int) {
        patch(offset, value.littleEndianBytes(bytes))
    }

    /// An operand of two fields, which need not wrap at 64 KiB as one.
    private var hasTwoParts: Bool {
        switch form.kind {
        case .farIndirect, .loadFarPointer, .bound: true
        default: false
        }
    }

    static func isWritable(_ offset: Int) -> Bool { host_page_kind(UInt32(offset >> 12)) == HOST_PAGE_WRITABLE }

    /// Where a memory operand may lie: mostly plain, sometimes across a page, sometimes where it must fault.
    mutating func chooseTarget(bytes: Int) -> Int {
        switch below(50) {
        case 0: 0x1000 - below(max(bytes, 1) + 1)  // across two pages
        case 1: 0x2000 - below(max(bytes, 1) + 1)  // into the page that is not there
        case 2: 0x2000 + below(0x1000)
        case 3: 0x3000 + below(0xFF0)  // read-only
        case 4: mode == .bits16 && !hasTwoParts ? 0x10000 - below(bytes + 2) : below(0x1FF0)
        case 5...20: below(0x1FC0)
        default: below(0xFF) * 16 + 0x400
        }
    }
}

extension host_selector {
    var selector: UInt16 { UInt16(truncatingIfNeeded: rawValue) }
}
