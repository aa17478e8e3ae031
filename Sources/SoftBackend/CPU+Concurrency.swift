// What changes where the VCPUs of a machine run at the same time: LOCK, and what one VCPU must learn of the others.
//
// Blocks are shared: they are found, made and dropped with ``CodeCache/sharing`` held, while a dropped block that
// another VCPU is in the middle of is executed to its end. SDM vol. 3, section 8.1.3 (cross-modifying code): a
// processor sees code that another one wrote after it has executed a serializing instruction; here it does so also
// after every ``CPU/looksBetweenLooksAtCode`` looks at the others.

import NVMM
import Synchronization

extension CPU {
    /// LFENCE, SFENCE and MFENCE: without others at the same time everything is in order anyway.
    func fence() {
        if isConcurrent { atomicMemoryFence(ordering: .sequentiallyConsistent) }
    }

    /// Looks at what the other VCPUs and the client did.
    ///
    /// - Returns: whether the run has to come out of the machine's gate.
    mutating func lookAtOthers() -> Bool {
        if memoryGeneration != memory.generation {
            // Somebody decoded code in a page for the first time: stores to it must be seen.
            memoryGeneration = memory.generation
            flushTLB()
        }
        looksUntilCode &-= 1
        if looksUntilCode <= 0 { lookAtCode() }
        return gate.isWanted
    }

    static var looksBetweenLooksAtCode: Int { 16 }

    /// All bytes are compared again before their blocks are executed: what a serializing instruction asks for.
    mutating func lookAtCode() {
        guard isConcurrent else { return }
        looksUntilCode = Self.looksBetweenLooksAtCode
        code.beginRun()
    }

    /// As ``modify(_:_:as:_:)``, indivisible for the other VCPUs: SDM vol. 3, section 8.1.
    ///
    /// Where the operand is not aligned, it is so among locked accesses only.
    @inline(never) mutating func modifyAtomically<T: OperandWidth>(
        _ segment: UInt8, _ offset: UInt64, as type: T.Type,
        _ change: (inout CPU, T) throws(Interruption) -> T
    ) throws(Interruption) {
        let bytes = UInt64(T.bitWidth / 8)
        let address = try linear(segment, offset, byteCount: bytes, .write)
        try checkWritable(address, byteCount: bytes, segment: segment)
        guard address & (bytes - 1) == 0 else {
            memory.splitLocks.lock()
            defer { memory.splitLocks.unlock() }
            let old = T(truncatingIfNeeded: try loadSlowly(address, byteCount: bytes, segment: segment))
            let new = try change(&self, old)
            return try storeSlowly(address, UInt64(truncatingIfNeeded: new), byteCount: bytes, segment: segment)
        }
        let host = try translate(address, .write, user: cpl == 3, byteCount: bytes)
        let flags = status
        var old = host.load(as: T.self)
        while true {
            let new = try change(&self, old)
            let (isExchanged, found) = T.compareExchange(host, expected: old, desired: new)
            if isExchanged { return }
            old = found
            status = flags
        }
    }

    /// CMPXCHG16B with LOCK.
    ///
    /// - Parameter address: linear, a multiple of 16, writable.
    /// - Returns: the 16 bytes found; they were replaced where they equal `expected`.
    mutating func compareExchange16(
        _ address: UInt64, expected: WordPair, desired: WordPair
    ) throws(Interruption) -> WordPair {
        let host = try translate(address, .write, user: cpl == 3, byteCount: 16)
        return unsafe host.atomic(WordPair.self).pointee
            .compareExchange(expected: expected, desired: desired, ordering: .sequentiallyConsistent).original
    }

    /// Sets bits of a page-table entry unless it is no longer what the walk saw.
    ///
    /// - Returns: false where another VCPU changed it: the walk begins again.
    mutating func setPageTableBits(
        _ gpa: UInt64, from old: UInt64, to new: UInt64, byteCount: UInt64
    ) throws(Interruption) -> Bool {
        guard let page = page(at: gpa), page.protection.contains(.write) else { throw exit(gpa: gpa, .write) }
        let host = HostAddress(page.host &+ gpa & 0xFFF)
        noteStore(page, host: host.raw, byteCount: byteCount)
        if byteCount == 8 { return UInt64.compareExchange(host, expected: old, desired: new).exchanged }
        return UInt32.compareExchange(
            host, expected: UInt32(truncatingIfNeeded: old), desired: UInt32(truncatingIfNeeded: new)
        ).exchanged
    }
}

// MARK: - Compare and exchange on the host

extension HostAddress {
    /// SAFETY: of every use: the address is a multiple of the operand's size, and guest memory is never seen by the
    /// compiler as a value of another kind.
    @inline(__always) fileprivate func atomic<Value: AtomicRepresentable>(_: Value.Type) -> UnsafePointer<Atomic<Value>>
    {
        unsafe UnsafePointer(bitPattern: UInt(raw)).unsafelyUnwrapped
    }
}

extension UInt8: OperandWidth {
    static func compareExchange(_ host: HostAddress, expected: Self, desired: Self) -> (exchanged: Bool, original: Self)
    {
        unsafe host.atomic(Self.self).pointee
            .compareExchange(expected: expected, desired: desired, ordering: .sequentiallyConsistent)
    }
}
extension UInt16: OperandWidth {
    static func compareExchange(_ host: HostAddress, expected: Self, desired: Self) -> (exchanged: Bool, original: Self)
    {
        unsafe host.atomic(Self.self).pointee
            .compareExchange(expected: expected, desired: desired, ordering: .sequentiallyConsistent)
    }
}
extension UInt32: OperandWidth {
    static func compareExchange(_ host: HostAddress, expected: Self, desired: Self) -> (exchanged: Bool, original: Self)
    {
        unsafe host.atomic(Self.self).pointee
            .compareExchange(expected: expected, desired: desired, ordering: .sequentiallyConsistent)
    }
}
extension UInt64: OperandWidth {
    static func compareExchange(_ host: HostAddress, expected: Self, desired: Self) -> (exchanged: Bool, original: Self)
    {
        unsafe host.atomic(Self.self).pointee
            .compareExchange(expected: expected, desired: desired, ordering: .sequentiallyConsistent)
    }
}
