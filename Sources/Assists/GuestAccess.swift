// Loads and stores of an assist: segment, page walk, then memory or the VMM's devices.

import NVMM

extension VCPU {
    /// ``VCPU/getState(_:)`` with this room's error.
    func cache(_ flags: StateFlags) throws(AssistError) {
        do { try getState(flags) } catch { throw .vcpu(error) }
    }
}

/// What a load or store of one VCPU goes through. Holds the parts of the state that address translation needs.
struct GuestAccess {
    let vcpu: any VCPU
    let machine: any Machine
    let callbacks: any AssistCallbacks
    let walk: PageWalk
    /// 64-bit mode: only FS and GS have bases, and limits do not count.
    let is64Bit: Bool
    private let isUser: Bool

    /// The state's GPRs, segments, CRs and MSRs must be cached.
    init(_ vcpu: any VCPU, _ machine: any Machine, _ callbacks: any AssistCallbacks) {
        self.vcpu = vcpu
        self.machine = machine
        self.callbacks = callbacks
        walk = PageWalk(vcpu.commPage.state)
        let code = vcpu.commPage.state[.cs].attributes
        let longMode = walk.efer & 1 << 10 != 0
        is64Bit = longMode && code.contains(.long)
        isUser = vcpu.commPage.state[.ss].attributes.dpl == 3
    }

    /// Linear address of `offset` in a segment.
    func linear(_ register: SegmentRegister, offset: UInt64, byteCount: Int) throws(AssistError) -> UInt64 {
        let segment = vcpu.commPage.state[register]
        if is64Bit {
            return register == .fs || register == .gs ? segment.base &+ offset : offset
        }
        let last = offset &+ UInt64(byteCount) &- 1
        let expandsDown = segment.attributes.contains(.nonSystem) && segment.attributes.type & 0xC == 0x4
        let inside: Bool
        if expandsDown {
            let top: UInt64 = segment.attributes.contains(.defaultBig) ? 0xFFFF_FFFF : 0xFFFF
            inside = offset > UInt64(segment.limit) && last <= top && last >= offset
        } else {
            inside = last <= UInt64(segment.limit) && last >= offset
        }
        guard inside else { throw .segmentViolation(register, offset: offset) }
        return (segment.base &+ offset) & 0xFFFF_FFFF
    }

    /// Physical address for an access of this VCPU's privilege.
    func translate(_ address: UInt64, isWrite: Bool) throws(AssistError) -> GPA {
        let found = try walk.translate(address, in: machine)
        guard let found else {
            throw .pageFault(address: GVA(address), errorCode: (isWrite ? 2 : 0) | (isUser ? 4 : 0))
        }
        let writeProtected = isUser || walk.cr0 & 1 << 16 != 0
        if walk.cr0 & 1 << 31 != 0,
            (isUser && !found.protection.contains(.user))
                || (isWrite && writeProtected && !found.protection.contains(.write))
        {
            throw .pageFault(address: GVA(address), errorCode: 1 | (isWrite ? 2 : 0) | (isUser ? 4 : 0))
        }
        return found.gpa
    }

    /// Throws what a store of `byteCount` bytes would throw, and changes nothing.
    func probeWrite(_ address: UInt64, byteCount: Int) throws(AssistError) {
        _ = try translate(address, isWrite: true)
        let last = address &+ UInt64(byteCount) &- 1
        if last >> 12 != address >> 12 { _ = try translate(last, isWrite: true) }
    }

    /// - Parameter byteCount: 1 to 8.
    func load(_ address: UInt64, byteCount: Int) throws(AssistError) -> UInt64 {
        let first = min(byteCount, pageBytes - Int(address & 0xFFF))
        if first == byteCount { return loadInPage(try translate(address, isWrite: false), byteCount: byteCount) }
        let (low, high) = (
            try translate(address, isWrite: false), try translate(address &+ UInt64(first), isWrite: false)
        )
        return loadInPage(low, byteCount: first)
            | loadInPage(high, byteCount: byteCount - first) << UInt64(first * 8)
    }

    /// - Parameter byteCount: 1 to 8.
    func store(_ value: UInt64, _ address: UInt64, byteCount: Int) throws(AssistError) {
        let first = min(byteCount, pageBytes - Int(address & 0xFFF))
        if first == byteCount {
            return try storeInPage(value, try translate(address, isWrite: true), byteCount: byteCount)
        }
        let (low, high) = (
            try translate(address, isWrite: true), try translate(address &+ UInt64(first), isWrite: true)
        )
        try storeInPage(value, low, byteCount: first)
        try storeInPage(value >> UInt64(first * 8), high, byteCount: byteCount - first)
    }

    /// What memory that the guest may read holds; nil elsewhere.
    func loadPlain(_ gpa: GPA, byteCount: Int) -> UInt64? {
        guard let place = machine.gpaToHVA(gpa), place.protection.contains(.read) else { return nil }
        return place.object.withBytes(place.offset..<place.offset + byteCount) { loadLittleEndian($0) }
    }

    func loadInPage(_ gpa: GPA, byteCount: Int) -> UInt64 {
        if let value = loadPlain(gpa, byteCount: byteCount) { return value }
        var access = MemoryAccess(vcpu: vcpu.id, gpa: gpa, isWrite: false, byteCount: byteCount, value: .max)
        callbacks.access(&access)
        return access.value & lowMask(byteCount)
    }

    func storeInPage(_ value: UInt64, _ gpa: GPA, byteCount: Int) throws(AssistError) {
        if let place = machine.gpaToHVA(gpa), place.protection.contains(.write) {
            do {
                try withLittleEndian(value, byteCount: byteCount) { (bytes) throws(MachineError) in
                    try machine.write(place.object, at: place.offset, bytes)
                }
            } catch { throw .machine(error) }
            return
        }
        var access = MemoryAccess(
            vcpu: vcpu.id, gpa: gpa, isWrite: true, byteCount: byteCount, value: value & lowMask(byteCount))
        callbacks.access(&access)
    }
}
