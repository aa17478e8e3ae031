// The drainer's side of the ring that a preloaded shim writes: Sources/CRing/include/ring.h.

internal import CRing
internal import Glibc
public import TraceFile

/// A ring in memory, and what has been read of it. Its other side is another process, which may write anywhere in here.
///
/// SAFETY: `memory` is a mapping of `byteCount` bytes, unmapped in deinit only. All reading goes through ring.c, which
/// checks copies; the file is allocated in full and nobody else shrinks it.
@safe public final class RecordRing {
    /// What is created: enough for some milliseconds of a client that does nothing but exit.
    static let laneCount: UInt32 = 8
    static let laneBytes: UInt64 = 2 << 20
    /// More is not taken from a file.
    static let bytesMax: Int = 1 << 30

    private let memory: UnsafeMutableRawPointer
    private let byteCount: Int
    private let reader: UnsafeMutablePointer<ring_reader>
    private var order = RecordOrder()
    /// Lane of the last record.
    private var lane: UInt32 = 0

    private init(_ memory: UnsafeMutableRawPointer, _ byteCount: Int) throws(ImportError) {
        unsafe self.memory = memory
        self.byteCount = byteCount
        unsafe reader = .allocate(capacity: 1)
        unsafe reader.initialize(to: ring_reader())
        let version = unsafe memory.load(fromByteOffset: 8, as: UInt32.self)
        guard unsafe ring_reader_open(reader, memory, UInt64(byteCount)) else {
            let magic = unsafe memory.load(as: UInt64.self)
            guard magic == 0x0047_4E49_5254_4D56, version != UInt32(RING_VERSION) else { throw .notARecording }
            throw .unsupportedVersion(version)
        }
    }

    deinit {
        unsafe munmap(memory, byteCount)
        unsafe reader.deallocate()
    }

    /// Makes a new ring at `path`, for a client to write.
    ///
    /// - Throws: ``ImportError/io(call:errno:)``, EEXIST among them: what stands there may be an only copy.
    public convenience init(
        creating path: String, level: RecordLevel, drops: Bool = false, recordsTime: Bool = false
    ) throws(ImportError) {
        try self.init(
            creating: path, level: level, drops: drops, recordsTime: recordsTime, laneCount: Self.laneCount,
            laneBytes: Self.laneBytes)
    }

    /// As ``init(creating:level:drops:recordsTime:)``, of any size that a ring may have.
    convenience init(
        creating path: String, level: RecordLevel, drops: Bool = false, recordsTime: Bool = false, laneCount: UInt32,
        laneBytes: UInt64
    ) throws(ImportError) {
        let size = Int(ring_size(laneCount, laneBytes))
        let file = unsafe open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard file >= 0 else { throw .io(call: "open", errno: errno) }
        defer { close(file) }
        do throws(ImportError) {
            let code = posix_fallocate(file, 0, off_t(size))
            guard code == 0 else { throw .io(call: "posix_fallocate", errno: code) }
            let mapped = unsafe mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)
            guard let mapped = unsafe mapped, unsafe mapped != MAP_FAILED else { throw .io(call: "mmap", errno: errno) }
            let number =
                switch level {
                case .exits: UInt32(RING_LEVEL_EXITS)
                case .replay: UInt32(RING_LEVEL_REPLAY)
                case .client: UInt32(RING_LEVEL_CLIENT)
                }
            let options = (drops ? UInt32(RING_OPTION_DROP) : 0) | (recordsTime ? UInt32(RING_OPTION_TIME) : 0)
            unsafe ring_format(mapped, laneCount, laneBytes, number, options, UInt32(getpid()))
            try unsafe self.init(mapped, size)
        } catch {
            unsafe unlink(path)
            throw error
        }
    }

    /// Copies the ring that a killed drainer left at `path`, to read what it had not.
    public convenience init(leftAt path: String) throws(ImportError) {
        let file = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard file >= 0 else { throw .io(call: "open", errno: errno) }
        defer { close(file) }
        var status = stat()
        guard unsafe fstat(file, &status) == 0 else { throw .io(call: "fstat", errno: errno) }
        let size = Int(status.st_size)
        guard size >= Int(RING_CONTROL_BYTES) else { throw .tooShort(byteCount: UInt64(max(size, 0))) }
        guard size <= Self.bytesMax else { throw .notARecording }
        let mapped = unsafe mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let mapped = unsafe mapped, unsafe mapped != MAP_FAILED else { throw .io(call: "mmap", errno: errno) }
        var done = 0
        while done < size {
            let got = unsafe pread(file, mapped + done, size - done, off_t(done))
            if got < 0, errno == EINTR { continue }
            guard got > 0 else {
                let code = got < 0 ? errno : EIO
                unsafe munmap(mapped, size)
                throw .io(call: "pread", errno: code)
            }
            done += got
        }
        try unsafe self.init(mapped, size)
    }

    private var laneCount: UInt32 { unsafe reader.pointee.lane_count }

    // MARK: - What stands beside the records

    /// Tells the client that somebody drains. To be called ten times a second.
    public func beat() { unsafe ring_beat(memory) }

    /// Tells the client to record no further: the trace takes no more.
    public func turnOff() { unsafe ring_turn_off(memory, UInt32(RING_OFF_BY_DRAINER)) }

    /// The client turned recording off since it took us for dead.
    public var tookUsForDead: Bool { unsafe ring_off_reason(memory) == UInt32(RING_OFF_DRAINER_DEAD) }
    /// The client's libnvmm is of a lineage that the shim was not built for.
    public var hasForeignLayout: Bool { unsafe ring_off_reason(memory) == UInt32(RING_OFF_FOREIGN_ABI) }
    /// The process that records; nil before the first.
    public var client: Int32? {
        let number = unsafe ring_client_pid(memory)
        return number == 0 ? nil : Int32(truncatingIfNeeded: number)
    }
    /// Processes that would have recorded too.
    public var refusedCount: Int { unsafe Int(ring_refused(memory)) }
    /// Records that found no room.
    public var lostCount: UInt64 {
        (0..<laneCount).reduce(0) { unsafe $0 &+ ring_lost(reader, $1) }
    }
    /// Numbers that never came: records that died with their writers.
    public var missingCount: UInt64 { order.missing }

    /// Number of the record that its reader was putting into the trace, and how many events the trace held without it;
    /// nil where nothing was read yet.
    var taking: (sequence: UInt64, eventsBefore: UInt64)? {
        let number = unsafe ring_taking(memory)
        return number == 0 ? nil : (number - 1, unsafe ring_events_before(memory))
    }

    /// Begins with record `sequence`, or the next where that one has been given back already; those before are in the
    /// trace.
    func resume(at sequence: UInt64) throws(ImportError) {
        var isThere = false
        for lane in 0..<laneCount {
            while let (header, _) = try unsafe head(of: lane), header.sequence <= sequence {
                isThere = isThere || header.sequence == sequence
                if header.sequence == sequence { break }
                unsafe ring_release_next(reader, lane)
            }
        }
        order.expected = isThere ? sequence : sequence + 1
    }

    // MARK: - Records

    /// Whether what is read stays in the ring for a while, since no trace holds it yet.
    func keep(_ keeps: Bool) { unsafe ring_keep(reader, keeps) }

    /// Gives the records that are there to `body`, in order; each is given back to the writers once `body` is through
    /// with it, so that a drainer that is killed loses none.
    ///
    /// - Parameters:
    ///   - count: to return after about so many.
    ///   - isBlocked: nothing came for a while, or writers may still come: records that wait for one before them are
    ///     moved out of its way.
    ///   - eventCount: what ``taking`` is to say with each record.
    /// - Returns: records given.
    func drain(
        atMost count: Int = .max, isBlocked: Bool, eventCount: () -> UInt64,
        _ body: (ShimRecord) throws(ImportError) -> Void
    ) throws(ImportError) -> Int {
        var given = 0
        while given < count {
            if let record = order.next() {
                unsafe ring_note_taking(memory, record.sequence, eventCount())
                try body(record)
                given += 1
            } else if try giveNext(eventCount, body) {
                given += 1
            } else if isBlocked, given == 0, try makeWay() {
                continue
            } else {
                break
            }
        }
        return given
    }

    /// As ``drain(atMost:isBlocked:eventCount:_:)``, once no writer is left: what is missing will not come.
    ///
    /// - Parameter missing: gets the count of what is missing before the record that follows.
    func drainRest(
        eventCount: () -> UInt64, missing: (UInt64) throws(ImportError) -> Void,
        _ body: (ShimRecord) throws(ImportError) -> Void
    ) throws(ImportError) {
        while true {
            if try drain(isBlocked: true, eventCount: eventCount, body) > 0 { continue }
            guard !order.isEmpty else { return }
            try missing(order.skip())
        }
    }

    /// Gives the record whose turn it is where one of the lanes begins with it.
    private func giveNext(
        _ eventCount: () -> UInt64, _ body: (ShimRecord) throws(ImportError) -> Void
    ) throws(ImportError) -> Bool {
        for turn in 0..<laneCount {
            let lane = (self.lane + turn) % laneCount
            guard let (header, payload) = try unsafe head(of: lane) else { continue }
            guard header.sequence >= order.expected else { throw .damagedRecord(sequence: header.sequence) }
            guard header.sequence == order.expected else { continue }
            self.lane = lane
            unsafe ring_note_taking(memory, header.sequence, eventCount())
            let record = unsafe copy(header, payload)
            order.expected &+= 1
            try body(record)
            unsafe ring_release_next(reader, lane)
            return true
        }
        return false
    }

    /// Takes the first record of each lane out, to get at those behind.
    private func makeWay() throws(ImportError) -> Bool {
        var hasMoved = false
        for lane in 0..<laneCount where !order.isFull {
            guard let (header, payload) = try unsafe head(of: lane) else { continue }
            try order.hold(unsafe copy(header, payload))
            unsafe ring_release_next(reader, lane)
            hasMoved = true
        }
        return hasMoved
    }

    private func head(of lane: UInt32) throws(ImportError) -> (ring_record, UnsafeRawPointer)? {
        var header = ring_record()
        var isDamaged = false
        let payload = unsafe ring_peek(reader, lane, &header, &isDamaged)
        guard !isDamaged else { throw .damagedRing(lane: Int(lane)) }
        guard let payload = unsafe payload else { return nil }
        return unsafe (header, payload)
    }

    private func copy(_ header: ring_record, _ payload: UnsafeRawPointer) -> ShimRecord {
        // SAFETY: ring_peek held `payload_bytes` of this copy against the lane's end.
        let bytes = unsafe [UInt8](UnsafeRawBufferPointer(start: payload, count: Int(header.payload_bytes)))
        return ShimRecord(
            kind: UInt32(truncatingIfNeeded: header.commit >> 32 & 0xFFFF), sequence: header.sequence,
            machine: header.machine, vcpu: header.vcpu, payload: bytes)
    }
}
