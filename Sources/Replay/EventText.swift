// One line for an event of a trace.

public import NVMM
public import TraceFile

/// Events as lines of text, for reports and listings.
public enum EventText {
    /// - Parameter event: any; the line has no line break and is stable between versions of a trace.
    public static func line(_ event: TraceEvent) -> String {
        switch event {
        case .machine(let event): line(event)
        case .memoryWrite(let write):
            line(write)
        case .guestWrite(let write): "guest " + line(write)
        case .call(let call): line(call)
        case .step(let step): line(step)
        case .keyframe(let keyframe): "keyframe after \(keyframe.stepCount) steps, clock \(keyframe.clock)"
        case .loss(let loss): "\(loss.eventCount) events lost: \(loss.reason)"
        }
    }

    private static func line(_ write: MemoryWrite) -> String {
        let kind = write.isRawStore ? "raw store" : "write"
        let place = "object \(write.object) offset \(shortHex(UInt64(clamping: write.offset)))"
        return "\(kind) \(place), \(write.bytes.count) bytes: " + prefix(write.bytes)
    }

    static func bytes(of value: UInt64, count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) }
    }

    private static func prefix(_ bytes: [UInt8]) -> String {
        hexBytes(Array(bytes.prefix(8))) + (bytes.count > 8 ? " ..." : "")
    }

    static func line(_ event: MachineEvent) -> String {
        switch event {
        case .createVCPU(let id): "create VCPU \(id)"
        case .destroyVCPU(let id): "destroy VCPU \(id)"
        case .configureVCPU(let id, .tpr(let exits)): "configure VCPU \(id): TPR exits \(exits ? "on" : "off")"
        case .configureVCPU(let id, .cpuid(let leaf, let rule)):
            switch rule {
            case .exit: "configure VCPU \(id): CPUID leaf \(shortHex(UInt64(leaf))) exits"
            case .remove: "configure VCPU \(id): CPUID leaf \(shortHex(UInt64(leaf))) as the backend has it"
            case .mask: "configure VCPU \(id): CPUID leaf \(shortHex(UInt64(leaf))) masked"
            }
        case .hvaMap(let object, let byteCount): "map object \(object), \(byteCount) bytes"
        case .hvaUnmap(let object): "unmap object \(object)"
        case .gpaMap(let range):
            "map gpa \(shortHex(range.gpa.rawValue)), \(range.byteCount) bytes, to object \(range.object)"
                + " offset \(shortHex(UInt64(clamping: range.offset))), \(range.protection.name)"
        case .gpaUnmap(let gpa, let byteCount): "unmap gpa \(shortHex(gpa.rawValue)), \(byteCount) bytes"
        case .advanceClock(let ticks): "advance the clock by \(ticks)"
        case .destroy: "destroy the machine"
        case .completion(let completion): "VCPU \(completion.vcpu) " + line(completion)
        }
    }

    public static func line(_ completion: Completion) -> String {
        let place = shortHex(completion.address)
        let text =
            switch completion.kind {
            case .portRead: "IN from port \(place)"
            case .portWrite: "OUT to port \(place)"
            case .memoryRead: "load from gpa \(place)"
            case .memoryWrite: "store to gpa \(place)"
            case .msrRead: "RDMSR of \(place)"
            case .msrWrite: "WRMSR of \(place)"
            case .msrRefused: "MSR \(place) refused"
            }
        return completion.bytes.isEmpty ? text : "\(text): \(prefix(completion.bytes))"
    }

    static func line(_ call: CallRecord) -> String {
        let cost = call.cost == .systemCall ? ", system call" : ""
        switch call.kind {
        case .getState: return "VCPU \(call.vcpu) getstate \(call.flags.partNames)\(cost)"
        case .setState: return "VCPU \(call.vcpu) setstate \(call.flags.partNames)"
        case .inject: return "VCPU \(call.vcpu) inject"
        case .stop: return "VCPU \(call.vcpu) stop"
        }
    }

    static func line(_ step: Step) -> String {
        var parts = ["VCPU \(step.vcpu)"]
        if !step.commit.isEmpty {
            parts.append("commit \(step.commit.partNames)")
            if step.commit.contains(.gprs) { parts.append("rip=\(shortHex(step.committed[.rip]))") }
        }
        if let event = step.event { parts.append("event " + line(event)) }
        if let budget = step.budget { parts.append("budget \(budget)") }
        if step.failed {
            parts.append("the run failed")
        } else {
            parts.append(step.kind == .returnedEarly ? "returned early" : "exit")
            parts.append(line(step.exit.reason))
        }
        if let retired = step.retired { parts.append("retired \(retired)") }
        if step.coverage.contains(.gprs) { parts.append("at rip \(shortHex(step.state[.rip]))") }
        return parts.joined(separator: " ")
    }

    /// An event for the guest: `interrupt 0x20`.
    public static func line(_ event: VCPUEvent) -> String {
        switch event.kind {
        case .interrupt: "interrupt \(shortHex(UInt64(event.vector)))"
        case .exception: "exception \(shortHex(UInt64(event.vector))) error \(shortHex(event.errorCode))"
        default: "type \(event.kind.rawValue) vector \(shortHex(UInt64(event.vector)))"
        }
    }

    /// An exit's reason with the most telling part of its payload: `IO out 0x402/1`.
    public static func line(_ reason: ExitReason) -> String {
        switch reason {
        case .io(let exit):
            "IO \(exit.isInput ? "in" : "out") \(shortHex(UInt64(exit.port)))/\(exit.operandBytes)"
        case .memory(let exit): "MEMORY \(exit.access.name) \(shortHex(exit.gpa.rawValue))"
        case .readMSR(let exit): "RDMSR \(shortHex(UInt64(exit.msr)))"
        case .writeMSR(let exit): "WRMSR \(shortHex(UInt64(exit.msr))) = \(shortHex(exit.value))"
        case .invalid(let code): "INVALID \(shortHex(code))"
        default: reason.name
        }
    }
}
