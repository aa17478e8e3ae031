// Delivery of interrupts and exceptions through the IVT and the IDT: SDM vol. 3, chapter 6, and vol. 2, INT n.

import NVMM

/// Where an event comes from: decides the DPL check and the EXT bit of error codes.
enum EventSource {
    /// An external interrupt, an NMI or an exception of the processor.
    case external
    /// INT n, INT3, INTO: the gate's DPL is checked, and faults of the delivery are the program's.
    case software
    /// INT1: no check of the DPL, EXT set.
    case privileged
}

extension ProcessorException {
    /// #DE, #TS, #NP, #SS, #GP, #CP: SDM vol. 3, table 6-4.
    fileprivate var isContributory: Bool { vector == 0 || vector >= 10 && vector <= 13 || vector == 21 }

    /// Vectors that push an error code.
    static func pushesErrorCode(_ vector: UInt8) -> Bool {
        switch vector {
        case 8, 10...14, 17, 21, 30: true
        default: false
        }
    }

    /// Reported with RIP at the instruction; the pushed RFLAGS.RF keeps its breakpoint from hitting again.
    fileprivate var isFault: Bool {
        switch vector {
        case 1, 3, 4, 8, 18: false
        default: true
        }
    }
}

extension CPU {
    // MARK: - Entry points

    /// Delivers an exception that the processor raised at RIP.
    ///
    /// - Parameter isTrap: for #DB, whether it comes after an instruction or from an instruction breakpoint.
    /// - Returns: an exit, where the delivery ended in one: ``pendingDelivery`` then holds the event.
    mutating func deliverException(_ exception: ProcessorException, isTrap: Bool = false) -> ExitReason? {
        deliver(exception, setsRF: exception.isFault || exception.vector == 1 && !isTrap, isException: true)
    }

    /// Delivers what a VMM injected: nvmm-facts, "Injection". Nothing is checked that could hold it back.
    mutating func deliverEvent(_ event: VCPUEvent) -> ExitReason? {
        if event.kind == .interrupt {
            let isNMI = event.vector == 2
            let reason = deliver(ProcessorException(vector: event.vector), setsRF: false, isException: false)
            if isNMI, pendingDelivery == nil { nmiBlocked = true }
            return reason
        }
        var exception = ProcessorException(vector: event.vector)
        if ProcessorException.pushesErrorCode(event.vector) {
            exception.errorCode = UInt32(truncatingIfNeeded: event.errorCode)
        }
        return deliver(exception, setsRF: exception.isFault, isException: true)
    }

    /// Delivers, and goes on to what the delivery itself raises, to the double and the triple fault:
    /// SDM vol. 3, table 6-5.
    private mutating func deliver(
        _ first: ProcessorException, setsRF: Bool, isException: Bool
    ) -> ExitReason? {
        var current = first
        var setsRF = setsRF
        var isException = isException
        while true {
            do {
                try deliver(
                    vector: current.vector, errorCode: current.errorCode, source: .external, returnRIP: rip,
                    pushedFlags: setsRF ? rflags | RFLAGS.rf : rflags)
                if isException, current.vector == 1 { dr[7] &= ~(1 << 13) }
                return nil
            } catch {
                keepsRIP = false
                guard case .exception(let second) = error else {
                    // Delivered again at the next run.
                    pendingDelivery = VCPUEvent(
                        kind: isException ? .exception : .interrupt, vector: current.vector,
                        errorCode: UInt64(current.errorCode ?? 0))
                    return pendingExit
                }
                if isException, current.vector == 8 { return .shutdown }
                let isDouble =
                    isException
                    && (current.isContributory && second.isContributory
                        || current.vector == 14 && (second.isContributory || second.vector == 14))
                current = isDouble ? .doubleFault : second
                setsRF = current.isFault
                isException = true
            }
        }
    }

    // MARK: - One delivery

    /// Enters the handler of `vector`. Registers change only if that succeeds (but for what a task switch commits).
    ///
    /// - Parameters:
    ///   - returnRIP: pushed.
    ///   - pushedFlags: the image of RFLAGS that is pushed.
    /// - Throws: exceptions with EXT set where the source asks for it.
    mutating func deliver(
        vector: UInt8, errorCode: UInt32?, source: EventSource, returnRIP: UInt64, pushedFlags: UInt64
    ) throws(Interruption) {
        do {
            if !isProtected {
                try deliverReal(vector: vector, returnRIP: returnRIP)
            } else if isLongMode {
                try deliverLong(
                    vector: vector, errorCode: errorCode, source: source, returnRIP: returnRIP, pushedFlags: pushedFlags
                )
            } else {
                try deliverProtected(
                    vector: vector, errorCode: errorCode, source: source, returnRIP: returnRIP, pushedFlags: pushedFlags
                )
            }
        } catch {
            guard case .exception(var exception) = error else { throw error }
            // EXT: the event was none of the program's. SDM vol. 3, section 6.13.
            if source != .software, exception.vector >= 10, exception.vector <= 13 {
                exception.errorCode = (exception.errorCode ?? 0) | 1
            }
            throw .exception(exception)
        }
        interruptShadow = false
        shadowBlocksDebug = false
        updateAttention()
    }

    /// SDM vol. 3, section 20.1.4.
    private mutating func deliverReal(vector: UInt8, returnRIP: UInt64) throws(Interruption) {
        let table = segments[SegmentRegister.idt.rawValue]
        let place = UInt64(vector) * 4
        guard place + 3 <= UInt64(table.limit) else { throw .generalProtection(UInt32(vector) * 8 + 2) }
        let target: UInt32 = try loadSystem(table.base &+ place)
        var stack = currentStack
        try checkRoom(stack, byteCount: 6)
        try push(&stack, rflags, width: 1)
        try push(&stack, UInt64(segments[SegmentRegister.cs.rawValue].selector), width: 1)
        try push(&stack, returnRIP, width: 1)
        setStackPointer(stack.pointer)
        dropPendingDebug()
        systemFlags &= ~(RFLAGS.if | RFLAGS.tf | RFLAGS.ac | RFLAGS.rf)
        setRealCode(UInt16(truncatingIfNeeded: target >> 16))
        rip = UInt64(target & 0xFFFF)
    }

    /// Traps of the interrupted instruction do not reach into the handler.
    private mutating func dropPendingDebug() {
        pendingDebug = 0
        attention.remove(.debug)
    }

    private mutating func deliverProtected(
        vector: UInt8, errorCode pushed: UInt32?, source: EventSource, returnRIP: UInt64, pushedFlags: UInt64
    ) throws(Interruption) {
        let table = segments[SegmentRegister.idt.rawValue]
        let place = UInt64(vector) * 8
        let code = UInt32(vector) * 8 + 2
        guard place + 7 <= UInt64(table.limit) else { throw .generalProtection(code) }
        let gate = Descriptor(low: try loadSystem(table.base &+ place, as: UInt64.self), address: table.base &+ place)
        guard gate.isSystem else { throw .generalProtection(code) }
        switch gate.type {
        case SystemType.taskGate, SystemType.interruptGate16, SystemType.trapGate16, SystemType.interruptGate,
            SystemType.trapGate:
            break
        default: throw .generalProtection(code)
        }
        if source == .software, gate.dpl < cpl { throw .generalProtection(code) }
        guard gate.isPresent else { throw .notPresent(code) }
        if gate.type == SystemType.taskGate {
            try enterTask(gate.gateSelector, errorCode: pushed, returnRIP: returnRIP, pushedFlags: pushedFlags)
            return
        }

        let width: UInt8 = gate.type & 8 != 0 ? 2 : 1
        let selector = gate.gateSelector
        var target = try handlerCode(selector)
        let offset = width == 2 ? gate.gateOffset : gate.gateOffset & 0xFFFF
        let level = target.isConforming ? cpl : target.dpl
        let wasVirtual = isVirtual8086
        var stack: PendingStack
        if level < cpl {
            if wasVirtual, level != 0 { throw .generalProtection(errorCode(selector)) }
            stack = try innerStack(level: level)
            let words: UInt64 = (wasVirtual ? 9 : 5) + (pushed == nil ? 0 : 1)
            try checkRoom(stack, byteCount: words << UInt64(width))
            try checkTarget(offset, target)
            if wasVirtual {
                for register: SegmentRegister in [.gs, .fs, .ds, .es] {
                    try push(&stack, UInt64(segments[register.rawValue].selector), width: width)
                }
            }
            try push(&stack, UInt64(segments[SegmentRegister.ss.rawValue].selector), width: width)
            try push(&stack, self[.rsp], width: width)
        } else {
            if wasVirtual { throw .generalProtection(errorCode(selector)) }
            stack = currentStack
            try checkRoom(stack, byteCount: (pushed == nil ? 3 : 4) << UInt64(width))
            try checkTarget(offset, target)
        }
        try push(&stack, pushedFlags, width: width)
        try push(&stack, UInt64(segments[SegmentRegister.cs.rawValue].selector), width: width)
        try push(&stack, returnRIP, width: width)
        if let pushed { try push(&stack, UInt64(pushed), width: width) }
        try markAccessed(&target)

        if level < cpl { adopt(stack) } else { setStackPointer(stack.pointer) }
        if wasVirtual {
            for register: SegmentRegister in [.gs, .fs, .ds, .es] { segments[register.rawValue] = Segment() }
        }
        enterHandler(target, selector: selector, offset: offset, level: level, masks: gate.type & 1 == 0)
    }

    /// The code segment that a gate names.
    private mutating func handlerCode(_ selector: UInt16) throws(Interruption) -> Descriptor {
        guard !isNull(selector) else { throw .generalProtection(0) }
        guard let target = try descriptor(selector), target.isCode, target.dpl <= cpl else {
            throw .generalProtection(errorCode(selector))
        }
        if isLongMode, !target.isLong || target.isBig { throw .generalProtection(errorCode(selector)) }
        guard target.isPresent else { throw .notPresent(errorCode(selector)) }
        return target
    }

    /// The registers of a handler's first instruction.
    private mutating func enterHandler(
        _ target: Descriptor, selector: UInt16, offset: UInt64, level: UInt8, masks: Bool
    ) {
        dropPendingDebug()
        setCode(target, selector: selector & ~3 | UInt16(level))
        systemFlags &= ~(RFLAGS.tf | RFLAGS.nt | RFLAGS.rf | RFLAGS.vm | (masks ? RFLAGS.if : 0))
        setCPL(level)
        rip = offset
        updateMode()
    }

    /// SDM vol. 3, section 6.14: 16-byte gates, an aligned stack, SS and RSP always pushed.
    private mutating func deliverLong(
        vector: UInt8, errorCode pushed: UInt32?, source: EventSource, returnRIP: UInt64, pushedFlags: UInt64
    ) throws(Interruption) {
        let table = segments[SegmentRegister.idt.rawValue]
        let place = UInt64(vector) * 16
        let code = UInt32(vector) * 8 + 2
        guard place + 15 <= UInt64(table.limit) else { throw .generalProtection(code) }
        let address = table.base &+ place
        let gate = Descriptor(
            low: try loadSystem(address, as: UInt64.self), high: try loadSystem(address &+ 8, as: UInt64.self),
            address: address)
        guard gate.isSystem, gate.type == SystemType.interruptGate || gate.type == SystemType.trapGate else {
            throw .generalProtection(code)
        }
        if source == .software, gate.dpl < cpl { throw .generalProtection(code) }
        guard gate.isPresent else { throw .notPresent(code) }

        let selector = gate.gateSelector
        var target = try handlerCode(selector)
        let level = target.isConforming ? cpl : target.dpl
        var stack = PendingStack(
            segment: segments[SegmentRegister.ss.rawValue], pointer: self[.rsp], mask: .max, isFlat: true,
            user: level == 3,
            faultCode: 0)
        if gate.interruptStack != 0 {
            stack.pointer = try longModeStack(at: gate.interruptStack * 8 + 28)
        } else if level < cpl {
            stack.pointer = try longModeStack(at: UInt64(level) * 8 + 4)
        }
        if level < cpl { stack.segment = nullStack(level: level) }
        stack.pointer &= ~0xF
        try checkRoom(stack, byteCount: pushed == nil ? 40 : 48)
        guard gate.gateOffset.isCanonical else { throw .generalProtection(0) }
        try push(&stack, UInt64(segments[SegmentRegister.ss.rawValue].selector), width: 3)
        try push(&stack, self[.rsp], width: 3)
        try push(&stack, pushedFlags, width: 3)
        try push(&stack, UInt64(segments[SegmentRegister.cs.rawValue].selector), width: 3)
        try push(&stack, returnRIP, width: 3)
        if let pushed { try push(&stack, UInt64(pushed), width: 3) }
        try markAccessed(&target)
        adopt(stack)
        enterHandler(target, selector: selector, offset: gate.gateOffset, level: level, masks: gate.type & 1 == 0)
    }
}

// MARK: - Instructions

extension CPU {
    /// INT n and INT3.
    @inline(never) mutating func softwareInterrupt(
        _ i: borrowing DecodedInstruction, vector: UInt8
    ) throws(Interruption) {
        // Without VME: SDM vol. 3, section 20.3.3.
        if i.operation == .int, isVirtual8086, iopl < 3 { throw .generalProtection(0) }
        try deliver(vector: vector, errorCode: nil, source: .software, returnRIP: nextRIP(i), pushedFlags: rflags)
    }

    mutating func int1(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try deliver(vector: 1, errorCode: nil, source: .privileged, returnRIP: nextRIP(i), pushedFlags: rflags)
    }

    mutating func into(_ i: borrowing DecodedInstruction) throws(Interruption) {
        guard status.overflow else {
            rip = nextRIP(i)
            return
        }
        try softwareInterrupt(i, vector: 4)
    }
}
