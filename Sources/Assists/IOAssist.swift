// Completing an IO exit: `nvmm_assist_io`; nvmm(4) and libnvmm(3).

public import NVMM

/// Completes the IN, OUT, INS or OUTS that a VCPU exited with: moves the data between the VMM's devices and RAX or
/// guest memory, counts RCX down and moves RIP on. What has changed is handed over at the next run.
///
/// A repeated string operation is done in batches, as libnvmm does: RIP stays while elements remain, and the guest
/// executes the instruction again.
///
/// - Parameters:
///   - exit: the payload of the exit that the VCPU's last run gave.
///   - elementsMax: of a string operation, no more than so many at a time.
/// - Throws: ``AssistError``. Nothing was read from a device or written to one before a fault is found.
/// The corresponding C function is `nvmm_assist_io`.
public func assistIO(
    _ vcpu: any VCPU, _ machine: any Machine, exit: IOExit, callbacks: any AssistCallbacks, elementsMax: Int = .max
) throws(AssistError) {
    try vcpu.cache(exit.isString ? [.gprs, .segments, .crs, .msrs] : .gprs)
    let byteCount = Int(exit.operandBytes)
    guard byteCount == 1 || byteCount == 2 || byteCount == 4 else { return }
    guard exit.isString else {
        let rax = vcpu.commPage.state[.rax]
        var access = IOAccess(
            vcpu: vcpu.id, port: exit.port, isInput: exit.isInput, byteCount: byteCount,
            value: exit.isInput ? .max : UInt32(truncatingIfNeeded: rax & lowMask(byteCount)))
        callbacks.access(&access)
        if callbacks.lacksAnswer { throw .unanswered }
        if exit.isInput {
            let mask = lowMask(byteCount)
            let kept = byteCount == 4 ? 0 : rax & ~mask
            vcpu.commPage.state[.rax] = kept | UInt64(access.value) & mask
        }
        vcpu.commPage.state[.rip] = exit.npc
        vcpu.setState(.gprs)
        return
    }
    try assistString(vcpu, machine, exit: exit, callbacks: callbacks, elementsMax: elementsMax)
}

/// libnvmm's batch: 32 bytes are moved at a time.
private let batchBytes = 32

private func assistString(
    _ vcpu: any VCPU, _ machine: any Machine, exit: IOExit, callbacks: any AssistCallbacks, elementsMax: Int
) throws(AssistError) {
    let guest = GuestAccess(vcpu, machine, callbacks)
    let byteCount = Int(exit.operandBytes)
    let addressMask = exit.addressMask
    let pointer: GPR = exit.isInput ? .rdi : .rsi
    let backwards = vcpu.commPage.state[.rflags] & 1 << 10 != 0

    var remaining: UInt64 = 1
    if exit.isRepeated {
        remaining = vcpu.commPage.state[.rcx] & addressMask
        if remaining == 0 {
            vcpu.commPage.state[.rip] = exit.npc
            vcpu.setState(.gprs)
            return
        }
    }
    let segment: SegmentRegister
    if let given = exit.segment {
        segment = given
    } else {
        segment = exit.isInput ? .es : try decodedSegment(vcpu, guest)
    }
    let elements = backwards ? 1 : min(Int(min(remaining, UInt64(batchBytes))), batchBytes / byteCount)
    let batch = min(elements, elementsMax)

    var offset = vcpu.commPage.state[pointer] & addressMask
    var done = 0
    while done < batch {
        // The first element may fault; a later one that does ends the batch, and faults when the guest comes again.
        let address: UInt64
        do {
            address = try guest.linear(segment, offset: offset, byteCount: byteCount)
            if exit.isInput { try guest.probeWrite(address, byteCount: byteCount) }
        } catch {
            if done == 0 { throw error }
            break
        }
        var access = IOAccess(
            vcpu: vcpu.id, port: exit.port, isInput: exit.isInput, byteCount: byteCount, value: .max)
        if exit.isInput {
            callbacks.access(&access)
            if callbacks.lacksAnswer { throw .unanswered }
            try guest.store(UInt64(access.value), address, byteCount: byteCount)
        } else {
            do { access.value = UInt32(truncatingIfNeeded: try guest.load(address, byteCount: byteCount)) } catch {
                if done == 0 { throw error }
                break
            }
            callbacks.access(&access)
            if callbacks.lacksAnswer { throw .unanswered }
        }
        offset = (backwards ? offset &- UInt64(byteCount) : offset &+ UInt64(byteCount)) & addressMask
        done += 1
    }

    vcpu.commPage.state.setAddress(pointer, offset, mask: addressMask)
    remaining -= UInt64(done)
    if exit.isRepeated { vcpu.commPage.state.setAddress(.rcx, remaining, mask: addressMask) }
    if remaining == 0 || !exit.isRepeated { vcpu.commPage.state[.rip] = exit.npc }
    vcpu.setState(.gprs)
}

/// The segment override of the OUTS at RIP, where the hypervisor did not say.
private func decodedSegment(_ vcpu: any VCPU, _ guest: GuestAccess) throws(AssistError) -> SegmentRegister {
    var segment = SegmentRegister.ds
    var rip = vcpu.commPage.state[.rip]
    for _ in 0..<5 {
        let byte = try guest.load(try guest.linear(.cs, offset: rip, byteCount: 1), byteCount: 1)
        switch byte {
        case 0x26: segment = .es
        case 0x2E: segment = .cs
        case 0x36: segment = .ss
        case 0x3E: segment = .ds
        case 0x64: segment = .fs
        case 0x65: segment = .gs
        case 0x66, 0x67, 0xF2, 0xF3, 0x40...0x4F: break
        default: return segment
        }
        rip &+= 1
    }
    return segment
}
