// Guest memory: an object that the backend and its client each see through a mapping of their own.

import Synchronization

/// Memory that `hva_map` made. GPA ranges are linked to parts of it; two ranges may show the same bytes.
///
/// The backend reads and writes through its own mapping; clients use this one. In the soft backend both are the
/// same addresses. A client changes memory through ``Machine/write(_:at:_:)`` or ``Machine/withWritable(_:_:_:)``;
/// a raw store through ``clientAddress`` is legal, found later and costs the tracer a comparison.
@safe public final class MemoryObject: @unchecked Sendable {
    /// Number in order of creation within the machine, from 0: what a trace calls this object.
    public let ordinal: UInt32
    /// Multiple of ``pageBytes``, more than 0.
    public let byteCount: Int
    /// The client's mapping: `byteCount` bytes, valid as long as this object. Who asks for it may write unseen.
    @unsafe public var clientAddress: UnsafeMutableRawPointer {
        isExposed_.store(true, ordering: .relaxed)
        return unsafe mapping
    }
    private let mapping: UnsafeMutableRawPointer
    private let isExposed_: Atomic<Bool>
    /// Whether somebody may write other than through the machine: has ``clientAddress``, or chose it.
    public var isExposed: Bool { isExposed_.load(ordering: .relaxed) }
    private let touched: (() -> [Range<Int>]?)?
    private let clientWrites: (() -> [Range<Int>]?)?
    private let hold: ((any WriterGate) -> (any HeldWriters)?)?
    private let release: () -> Void

    /// - Parameters:
    ///   - isExposed: the client knows the address.
    ///   - touchedPages: what ``touchedPages`` asks; nil, or an answer of nil, where nobody knows.
    ///   - clientWrites: what ``takeClientWrites()`` asks; nil, or an answer of nil, where nobody watches.
    ///   - holdWriters: what ``holdWriters(behind:)`` asks; nil, or an answer of nil, where nobody can.
    ///   - release: called once, when the last reference goes: gives the memory back.
    public init(
        ordinal: UInt32, byteCount: Int, clientAddress: UnsafeMutableRawPointer, isExposed: Bool = false,
        touchedPages: (() -> [Range<Int>]?)? = nil, clientWrites: (() -> [Range<Int>]?)? = nil,
        holdWriters: ((any WriterGate) -> (any HeldWriters)?)? = nil,
        release: @escaping () -> Void
    ) {
        self.ordinal = ordinal
        self.byteCount = byteCount
        unsafe mapping = clientAddress
        isExposed_ = Atomic(isExposed)
        touched = touchedPages
        self.clientWrites = clientWrites
        hold = holdWriters
        self.release = release
    }

    deinit { release() }

    public var pageCount: Int { byteCount / pageBytes }

    /// Ranges of pages, ascending, outside of which every byte is zero since nobody has accessed it yet. Guest memory
    /// is mostly that, and what asks for all of it needs to look at these only. All pages where it is not known.
    public var touchedPages: [Range<Int>] { touched?() ?? [0..<pageCount] }

    /// Ranges of pages, ascending, that were written through the client's mapping since the last call, by stores and by
    /// system calls alike; what the backend and the guest write is not among them. The first call begins to watch and
    /// gives all pages.
    ///
    /// - Returns: nil where nobody watches: then only a comparison of all pages finds such writes.
    public func takeClientWrites() -> [Range<Int>]? { clientWrites?() }

    /// From now on a thread that writes through the client's mapping to a page that was not written since the last
    /// ``takeClientWrites()`` waits until `gate` admits it: what one call of ``takeClientWrites()`` gives was then
    /// written where the gate let it be. Call it while nobody can have written yet.
    ///
    /// - Returns: nil where nobody watches, or nobody can hold a writer: all is as before then.
    public func holdWriters(behind gate: any WriterGate) -> (any HeldWriters)? { hold?(gate) }

    /// Reads bytes as they are now.
    ///
    /// - Parameter range: within 0..<`byteCount`; traps otherwise, since it is a client's own number.
    public func withBytes<Result, Failure: Error>(
        _ range: Range<Int>, _ body: (RawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        precondition(range.lowerBound >= 0 && range.upperBound <= byteCount, "range outside the memory object")
        // SAFETY: the range was just checked, the mapping lives as long as self, the span ends with the call.
        let buffer = unsafe UnsafeRawBufferPointer(start: mapping + range.lowerBound, count: range.count)
        return try body(unsafe RawSpan(_unsafeBytes: buffer))
    }
}

/// Says when a thread of the client that writes to guest memory may go on.
public protocol WriterGate: AnyObject, Sendable {
    /// Calls `open`, which lets the writer go on, once and while no VCPU of the machine executes.
    ///
    /// - Parameter thread: the host kernel's number of the thread that waits.
    func admit(thread: Int32, _ open: () -> Void)
}

/// The writers of one mapping that wait at a gate.
public protocol HeldWriters: AnyObject, Sendable {
    /// Whether a thread waits, or is about to be admitted.
    var hasWaiting: Bool { get }
}
