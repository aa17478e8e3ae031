// State and memory that make a case of each kind say something, and what the manual leaves undefined in it.

import CHostOracle
import NVMM

extension CaseGenerator {
    private var operandBytes: Int { max(size / 8, 1) }

    /// Selectors worth loading: good ones, null, too privileged, not present, beyond the table.
    private static let selectors: [UInt16] = [
        HOST_DATA.selector, HOST_DATA.selector, HOST_LDT_DATA16.selector, HOST_LDT_DATA_BIG.selector,
        HOST_LDT_SHORT.selector, HOST_LDT_EXPAND_DOWN.selector, HOST_LDT_READ_ONLY.selector, 0, 3, 0x10, 0x18, 0x1B,
        HOST_LDT_NOT_PRESENT.selector, HOST_CODE32.selector, HOST_CODE64.selector, HOST_LDT_EXECUTE_ONLY.selector,
        HOST_LDT_CODE16.selector, 0xFFFB, 0x28, 0x29, 0x4F,
    ]

    // MARK: - Before the encoding is chosen

    mutating func prepareBefore() {
        switch form.kind {
        case .shiftByCL:
            test.state.gprs[1] = test.state.gprs[1] & ~0xFF | UInt64(shiftCount())
        case .loop:
            // The count is as wide as an address; what stands above it must not matter.
            let mask = addressMask(form.mnemonic == "JCXZ" ? 16 : form.mnemonic == "JECXZ" ? 32 : addressBits)
            test.state.gprs[1] = test.state.gprs[1] & ~mask | pick([0, 1, 2, mask, value(bits: 16)]) & mask
        case .adjustMultiply: break
        // Indices in vector registers have addresses of 32 and 64 bits alone.
        case .vector where form.vex?.gathers != nil: addressBits = mode.rawValue
        default: break
        }
    }

    private func addressMask(_ bits: Int) -> UInt64 { bits == 64 ? .max : (1 << UInt64(bits)) - 1 }

    // MARK: - After it

    mutating func prepareAfter() {
        switch form.kind {
        case .divide: prepareDivision()
        case .bitString: prepareBitString()
        case .string(let operation): prepareString(operation)
        case .pop: patch(stackOffset, value: value(bits: 64), bytes: operandBytes)
        case .pushSegment: patch(stackOffset - 8, value: 0, bytes: 8)
        case .popSegment:
            // What SS takes is the smaller part of them.
            let selector = chance(30) ? HOST_LDT_DATA_BIG.selector : pick(Self.selectors)
            patch(stackOffset, value: UInt64(selector) | UInt64(below(0x10000)) << 16, bytes: operandBytes)
        case .popAll: patch(stackOffset, (0..<32).map { _ in UInt8(below(256)) })
        case .popFlags:
            // All bits but TF: a trap after the next instruction is another test.
            patch(stackOffset, value: random.next() & ~Flag.tf, bytes: operandBytes)
        case .ret, .retImmediate:
            patch(stackOffset, value: nearLanding(), bytes: operandBytes)
        case .jumpIndirect, .callIndirect: setOperand(nearLanding())
        case .farIndirect, .loadFarPointer: prepareFarPointer()
        case .farReturn, .interruptReturn: prepareFarReturn()
        case .loadSegment: setOperand(UInt64(pick(Self.selectors)) | (size == 16 ? UInt64(below(0x10000)) << 16 : 0))
        case .selectorCheck:
            setOperand(UInt64(pick(Self.selectors)) | UInt64(below(0x10000)) << 16)
        case .enter: test.state.gprs[5] = test.state.gprs[4] &+ UInt64(below(0x80))
        case .leave:
            test.state.gprs[5] = test.state.gprs[4] &+ UInt64(below(0x40))
            patch(
                Int(truncatingIfNeeded: test.state.gprs[5] &- (isFlat ? Window.dataBase : 0)) & 0xFFFF,
                value: value(bits: 64), bytes: operandBytes)
        case .bound: prepareBound()
        case .translate: prepareTranslate()
        case .compareExchange, .compareExchange8, .compareExchange16: prepareCompareExchange()
        case .vector: prepareVector()
        case .x87: prepareX87()
        case .load, .push, .pushAll, .loop, .jump, .call, .farDirect, .software: break
        default: setOperand(value(bits: min(memoryBytes * 8, 64)))
        }
    }

    /// Gives the r/m operand a value: into its register unless an address needs that, or into memory.
    private mutating func setOperand(_ value: UInt64) {
        if let target, hasMemoryOperand {
            patch(target, value: value, bytes: memoryBytes)
        } else if let rmRegister, form.kind != .plain {
            test.state.gprs[rmRegister] = value
        }
    }

    /// All of XMM0 to XMM15, and what memory gives, in lanes of one width.
    private mutating func prepareVector() {
        guard case .vector(_, _, let floatBits) = form.kind else { return }
        let laneBytes = floatBits > 0 ? floatBits / 8 : pick([1, 2, 4, 8])
        func lanes(_ generator: inout CaseGenerator) -> [UInt8] {
            (0..<16 / laneBytes).flatMap { _ in
                let lane = floatBits > 0 ? generator.float(bits: floatBits) : generator.value(bits: laneBytes * 8)
                return Self.little(lane, laneBytes)
            }
        }
        // Flags, DAZ, rounding, FTZ; masks are all set most of the time.
        let masks: UInt64 = chance(75) ? 0x1F80 : random.next() & 0x1F80
        let flags: UInt64 = chance(70) ? 0 : random.next() & 0x3F
        let control: UInt64 = chance(40) ? 0 : random.next() & 0xE040
        test.state.fpu.mxcsr = UInt32(truncatingIfNeeded: masks | flags | control)
        for index in 0..<16 {
            var bytes = SIMD16<UInt8>(lanes(&self))
            // Counts of shifts that leave something.
            if floatBits == 0, chance(30) { bytes = SIMD16([UInt8(below(70))] + [UInt8](repeating: 0, count: 15)) }
            if index > 0, chance(20) { bytes = test.state.fpu.xmm[index - 1] }
            test.state.fpu.xmm[index] = bytes
        }
        if HostOracle.hasAVX {
            for index in 0..<16 { test.state.ymm[index] = SIMD16(lanes(&self)) }
        }
        if let target { patch(target, Array((lanes(&self) + lanes(&self)).prefix(memoryBytes))) }
        if let gathers = form.vex?.gathers, let indexRegister { prepareGather(gathers, indexRegister) }
        for index in 0..<8 {
            var bytes = lanes(&self)
            if chance(30) { bytes = [UInt8(below(70))] + [UInt8](repeating: 0, count: 15) }
            bytes.replaceSubrange(10..<16, with: repeatElement(0, count: 6))
            test.state.fpu.x87[index] = SIMD16(bytes)
        }
        test.state.fpu.tagByte = UInt8(below(256))
        test.state.fpu.statusWord = UInt16(below(8)) << 11
        // Whether the x87 state has changed when memory or a result faults, or a conversion has no MMX register, is the
        // processor's choice.
        if hasMemoryOperand || floatBits > 0 || form.mnemonic == "MASKMOVQ" {
            (test.state.fpu.tagByte, test.state.fpu.statusWord) = (0xFF, 0)
        }
        guard form.mnemonic.hasPrefix("MASKMOV") || form.mnemonic == "VMASKMOVDQU" else { return }
        // Which bytes are stored before one that cannot be is the processor's choice.
        let offset = 0x400 + below(0xF00)
        if mode != .bits64 {
            test.state.ds =
                isFlat
                ? HOST_DATA.selector : mode == .bits16 ? HOST_LDT_DATA16.selector : HOST_LDT_DATA_BIG.selector
        }
        let mask = addressMask(addressBits)
        test.state.gprs[7] = test.state.gprs[7] & ~mask | (UInt64(offset) + (isFlat ? Window.dataBase : 0)) & mask
        for index in 0..<16 where chance(30) { test.state.fpu.xmm[index] = .zero }
    }

    /// Indices that lead somewhere near the operand's address.
    private mutating func prepareGather(_ gather: VEX.Gather, _ register: Int) {
        let bytes = 1 << gather.index
        for upper in [false, true] {
            let elements = (0..<16 / bytes).flatMap { _ in
                Self.little(UInt64(bitPattern: Int64(below(48) - 24)), bytes)
            }
            if upper, HostOracle.hasAVX { test.state.ymm[register] = SIMD16(elements) }
            if !upper { test.state.fpu.xmm[register] = SIMD16(elements) }
        }
    }

    private mutating func nearLanding() -> UInt64 {
        let landing =
            Window.entry(slot: slot, cs: test.state.cs)
            &+ UInt64(bitPattern: Int64(chooseLanding(codeEnd: Window.slotEntry + 16) - Window.slotEntry))
        return landing
    }

    private mutating func prepareDivision() {
        let signed = form.mnemonic == "IDIV"
        let bits = UInt64(size)
        let mask = addressMask(size)
        var divisor = value(bits: size)
        if divisor == 0, chance(80) { divisor = 3 }
        setOperand(divisor)
        if let rmRegister, !hasMemoryOperand {
            // AH, SPL and the like: the value that is really divided by is not this one; any case will do.
            divisor = test.state.gprs[rmRegister] & mask
        }
        guard divisor != 0, rmRegister != 0, rmRegister != 2 else { return }
        let low = value(bits: size)
        var high: UInt64
        if signed {
            let negative = chance(50)
            let half = (divisor >> (bits - 1) != 0 ? (~divisor &+ 1) & mask : divisor) >> 1
            high = half == 0 ? 0 : random.next() % half
            if negative { high = ~high & mask }
        } else {
            high = random.next() % divisor
        }
        if chance(15) { high = value(bits: size) }
        if size == 8 {
            test.state.gprs[0] = test.state.gprs[0] & ~0xFFFF | high << 8 | low
        } else {
            test.state.gprs[0] = test.state.gprs[0] & ~mask | low
            test.state.gprs[2] = test.state.gprs[2] & ~mask | high
        }
    }

    private mutating func prepareBitString() {
        guard hasMemoryOperand else { return }
        if let target { patch(target, value: value(bits: 64), bytes: 8) }
        guard let operandRegister, form.immediate == .none, !addressRegisters.contains(operandRegister) else { return }
        // Signed and as wide as the operand: reaches bytes on both sides of the address.
        let offset = UInt64(bitPattern: Int64(chance(60) ? below(64) : below(0x2000) - 0x1000))
        let mask = addressMask(size)
        test.state.gprs[operandRegister] = test.state.gprs[operandRegister] & ~mask | offset & mask
    }

    private mutating func prepareString(_ operation: InstructionForm.StringOperation) {
        let bytes = operandBytes
        let mask = addressMask(addressBits)
        let count = form.prefix == nil ? 1 : below(48 / bytes + 1)
        if form.prefix != nil {
            test.runsToHalt = true
            let high = addressBits == 64 ? 0 : random.next() & ~mask
            test.state.gprs[1] = high | UInt64(count)
        }
        let backwards = test.state.rflags & Flag.df != 0
        func address(_ offset: Int) -> UInt64 { (UInt64(offset) + (isFlat ? Window.dataBase : 0)) & mask }
        var source = 0x400 + below(0x600), destination = 0x1080 + below(0x600)
        if chance(4) { destination = 0x1FF0 + below(0x20) }
        let usual = source
        if chance(4) { source = 0x1FF0 + below(0x20) }
        if chance(5) { destination = source + below(8) }
        if chance(3), mode == .bits16 { source = 0x10000 - below(16) }
        // Which of the two is read first is the processor's choice: at most one of them may fault.
        if operation == .compare, destination > 0x1C00 || !plainDataSegments { source = usual }
        if operation == .compare, !plainDataSegments {
            destination = 0x1100
            if !Self.plain.contains(test.state.es) {
                test.state.ds = mode == .bits16 ? HOST_LDT_DATA16.selector : HOST_LDT_DATA_BIG.selector
            }
        }
        let high = addressBits == 64 ? 0 : random.next() & ~mask
        test.state.gprs[6] = address(source) | high
        test.state.gprs[7] = address(destination) | high
        let length = max(count, 1) * bytes
        var text = (0..<min(length, 64)).map { _ in UInt8(below(256)) }
        if operation == .scan {
            // All elements alike and like the accumulator, or none, but for one.
            let element = value(bits: size)
            text = (0..<max(count, 1)).flatMap { _ in Self.little(element, bytes) }
            if chance(60) { test.state.gprs[0] = test.state.gprs[0] & ~addressMask(size) | element }
        }
        let start = { (place: Int) in backwards ? place - length + bytes : place }
        if operation != .scan, operation != .store { patch(start(source), text) }
        var other = text
        if chance(70), !other.isEmpty { other[below(other.count)] ^= UInt8(1 << below(8)) }
        if form.prefix == 0xF2, operation == .compare { other = other.map { $0 ^ 0x55 } }
        if operation == .compare || operation == .scan { patch(start(destination), other) }
    }

    private var plainDataSegments: Bool {
        mode == .bits64 || Self.plain.contains(test.state.ds) && Self.plain.contains(test.state.es)
    }
    private static let plain: Set<UInt16> = [
        HOST_DATA.selector, HOST_LDT_DATA16.selector, HOST_LDT_DATA_BIG.selector,
    ]

    private mutating func prepareFarPointer() {
        guard let target else { return }
        let bytes = size / 8
        let far =
            form.kind == .farIndirect
            ? farTarget(codeEnd: Window.slotEntry + 16) : (offset: value(bits: size), selector: pick(Self.selectors))
        patch(target, Self.little(far.offset, bytes) + Self.little(UInt64(far.selector), 2))
    }

    private mutating func prepareFarReturn() {
        let bytes = size / 8
        let far = farTarget(codeEnd: Window.slotEntry + 16)
        var frame = Self.little(far.offset, bytes) + Self.little(UInt64(far.selector) | random.next() << 16, bytes)
        if form.kind == .interruptReturn {
            // No TF, NT or RF: what they do to the next instruction is another test.
            // Nor AC where the frame is misaligned: some processors raise #AC between two of its pops then, which a
            // hypervisor that watches for split locks takes for one, and begins the instruction again for ever.
            let isAligned = test.state.gprs[4] % UInt64(bytes) == 0
            let cleared = Flag.tf | Flag.rf | 0x4000 | 0x2_0000 | (isAligned ? 0 : 0x4_0000)
            frame += Self.little(random.next() & ~cleared, bytes)
            if mode == .bits64 {
                let stack = Window.dataBase + UInt64(0x5000 + below(0x1000))
                frame += Self.little(stack, bytes)
                let selector = UInt64(chance(85) ? HOST_DATA.selector : pick([0, 3, 0x18, 0x10, HOST_CODE32.selector]))
                frame += Self.little(selector, bytes)
            }
        }
        patch(stackOffset, frame)
    }

    private mutating func prepareBound() {
        guard let target, let operandRegister else { return }
        let bytes = operandBytes
        let mask = addressMask(size)
        let index = test.state.gprs[operandRegister] & mask
        let lower = chance(70) ? index &- UInt64(below(100)) : value(bits: size)
        let upper = chance(70) ? index &+ UInt64(below(100)) : value(bits: size)
        patch(target, Self.little(lower & mask, bytes) + Self.little(upper & mask, bytes))
    }

    private mutating func prepareTranslate() {
        let offset = chooseTarget(bytes: 1)
        let address = UInt64(offset) + (isFlat ? Window.dataBase : 0) &- test.state.gprs[0] & 0xFF
        let mask = addressMask(addressBits)
        test.state.gprs[3] = addressBits == 64 ? address : test.state.gprs[3] & ~mask | address & mask
        patch(offset, value: value(bits: 8), bytes: 1)
    }

    private mutating func prepareCompareExchange() {
        let old = value(bits: form.kind == .compareExchange ? size : 64), oldHigh = value(bits: 64)
        let equal = chance(50)
        switch form.kind {
        case .compareExchange:
            setOperand(old)
            let mask = addressMask(size)
            if equal { test.state.gprs[0] = test.state.gprs[0] & ~mask | old & mask }
        case .compareExchange8:
            guard let target else { return }
            patch(target, value: old, bytes: 8)
            if equal {
                test.state.gprs[0] = old & 0xFFFF_FFFF | random.next() << 32
                test.state.gprs[2] = old >> 32 | random.next() << 32
            }
        default:
            guard let target else { return }
            patch(target, Self.little(old, 8) + Self.little(oldHigh, 8))
            if equal {
                test.state.gprs[0] = old
                test.state.gprs[2] = oldHigh
            }
        }
    }

    // MARK: - Undefined results

    mutating func decideUndefined() {
        switch form.undefined {
        case .none:
            // SDM vol. 2, LAR: bits 19:16 of a 32- or 64-bit result are undefined.
            if form.mnemonic == "LAR", size > 16, let operandRegister {
                test.undefined.registers = 1 << UInt16(operandRegister)
                test.undefined.registerBits = 0xF_0000
            }
        case .flags(let flags): test.undefined.flags = flags
        case .shift(let losesCarry):
            let count = maskedCount
            guard count != 0 else { break }
            test.undefined.flags = Flag.af | (count == 1 ? 0 : Flag.of)
            if losesCarry, count >= size { test.undefined.flags |= Flag.cf }
        case .rotate:
            if maskedCount > 1 { test.undefined.flags = Flag.of }
        case .doubleShift:
            let count = maskedCount
            guard count != 0 else { break }
            test.undefined.flags = Flag.af | (count == 1 ? 0 : Flag.of)
            if count > size {
                test.undefined = Undefined(flags: Flag.arithmetic, memory: true)
                if let rmRegister { test.undefined.registers = 1 << UInt16(rmRegister) }
            }
        case .bitScan:
            test.undefined.flags = Flag.arithmetic & ~Flag.zf
            if sourceIsZero, let operandRegister { test.undefined.registers = 1 << UInt16(operandRegister) }
        case .approximation: test.undefined.isApproximate = true
        case .result:
            if size == 16, let operandRegister { test.undefined.registers = 1 << UInt16(operandRegister) }
        }
    }

    /// The count as the processor masks it: five bits, six for 64-bit operands.
    private var maskedCount: Int {
        let mask = size == 64 ? 63 : 31
        switch form.immediate {
        case .shiftCount: return Int(test.code.last ?? 0) & mask
        default: return form.kind == .shiftByCL ? Int(test.state.gprs[1] & 0xFF) & mask : 1
        }
    }

    private var sourceIsZero: Bool {
        let mask = addressMask(size)
        if !hasMemoryOperand { return rmRegister.map { test.state.gprs[$0] & mask == 0 } ?? false }
        guard let target else { return false }
        return (target..<target + operandBytes).allSatisfy { place in
            for patch in test.patches where place >= Int(patch.offset) && place < Int(patch.offset) + patch.bytes.count
            {
                return patch.bytes[place - Int(patch.offset)] == 0
            }
            return HostOracle.pristine[place & 0xFFFF] == 0
        }
    }
}
