// A store of guest pages that many traces share, in one SQLite database: Docs/trace-format.md, "Shared pages frame".

import CSQLite
import NVMM
public import SystemPackage

/// Failures of a store of shared pages.
public enum SharedPagesError: Error, Equatable, Sendable {
    /// There is no store where the trace's pages should be.
    case absent(path: String)
    /// The store has no page of this name.
    case missingPage(PageHash)
    /// SQLite's extended result code, and its words.
    case database(code: Int32, message: String)
    /// The content under this name has another hash, or is no page.
    case wrongPage(PageHash)
    /// The store was made by a version that this one does not know.
    case unknownVersion(Int64)
}

/// Pages of guest memory by the XXH3-128 of their content, each compressed by itself.
///
/// Not to be used from two threads at once; open it twice for that. Several processes may read while one writes.
@safe public final class SharedPages {
    /// Of the store beside the folder in which its traces stand.
    public static let fileName = "pages.sqlite"

    public enum Access: Sendable { case reading, writing, creating }

    /// What an insertion found.
    enum Insertion { case new, known, collides }

    private let database: OpaquePointer
    private let selecting: OpaquePointer
    private let inserting: OpaquePointer?
    private let compressor: Compressor?
    private let decompressor = Decompressor()
    private static let version: Int64 = 1
    /// How long a process waits for another one that writes.
    private static let busyMilliseconds: Int32 = 60_000

    /// - Throws: ``SharedPagesError``; with `reading` and `writing`, ``SharedPagesError/absent(path:)`` where there is
    ///   no file.
    public init(_ path: FilePath, _ access: Access) throws(SharedPagesError) {
        var flags = SQLITE_OPEN_NOMUTEX
        switch access {
        case .reading: flags |= SQLITE_OPEN_READONLY
        case .writing: flags |= SQLITE_OPEN_READWRITE
        case .creating: flags |= SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
        }
        var opened: OpaquePointer?
        // SAFETY: the path lives for the call; the handle is closed in every way out, even where opening failed.
        let code = unsafe sqlite3_open_v2(path.string, &opened, flags, nil)
        guard code == SQLITE_OK, let database = unsafe opened else {
            let failure =
                unsafe opened.map { unsafe Self.failure($0) }
                ?? .database(code: code, message: unsafe String(cString: sqlite3_errstr(code)))
            unsafe sqlite3_close_v2(opened)
            if code & 0xFF == SQLITE_CANTOPEN, access != .creating { throw .absent(path: path.string) }
            throw failure
        }
        do throws(SharedPagesError) {
            unsafe sqlite3_busy_timeout(database, Self.busyMilliseconds)
            if access == .creating {
                try unsafe Self.execute(
                    """
                    PRAGMA page_size = 16384;
                    CREATE TABLE IF NOT EXISTS page (
                        number INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, content BLOB NOT NULL);
                    PRAGMA user_version = \(Self.version);
                    """, in: database)
            }
            let version = try unsafe Self.number("PRAGMA user_version", in: database)
            guard version == Self.version else { throw SharedPagesError.unknownVersion(version) }
            unsafe selecting = try unsafe Self.prepare("SELECT content FROM page WHERE name = ?", in: database)
            if access == .reading {
                unsafe inserting = nil
                compressor = nil
            } else {
                unsafe inserting = try unsafe Self.prepare(
                    "INSERT INTO page (name, content) VALUES (?, ?)", in: database)
                compressor = try? Compressor(level: 9)
            }
        } catch {
            unsafe sqlite3_close_v2(database)
            throw error
        }
        unsafe self.database = unsafe database
    }

    deinit {
        unsafe sqlite3_finalize(selecting)
        unsafe sqlite3_finalize(inserting)
        unsafe sqlite3_close_v2(database)
    }

    // MARK: - Pages

    /// - Returns: 4,096 bytes, held against their name; nil where the store has none of it.
    public func content(_ name: PageHash) throws(SharedPagesError) -> [UInt8]? {
        defer { unsafe sqlite3_reset(selecting) }
        try unsafe bind(name, to: selecting)
        switch unsafe sqlite3_step(selecting) {
        case SQLITE_DONE: return nil
        case SQLITE_ROW: break
        default: throw unsafe Self.failure(database)
        }
        let stored = unsafe Self.bytes(of: selecting, column: 0)
        guard
            let page = try? decompressor.decompress(
                stored[...], byteCount: pageBytes, place: TracePlace(frame: 0)),
            unsafe PageHash(content: page.span.bytes) == name
        else { throw .wrongPage(name) }
        return page
    }

    /// Puts a page into the store, unless it is there.
    ///
    /// - Parameter name: the content's XXH3-128.
    func insert(_ content: ArraySlice<UInt8>, name: PageHash) throws(SharedPagesError) -> Insertion {
        if let known = try self.content(name) { return known.elementsEqual(content) ? .known : .collides }
        guard let compressed = try? compressor?.compress(Array(content)) else {
            throw .database(code: SQLITE_READONLY, message: "opened for reading")
        }
        defer { unsafe sqlite3_reset(inserting) }
        try unsafe bind(name, to: inserting)
        try unsafe bind(compressed, to: inserting, at: 2)
        guard unsafe sqlite3_step(inserting) == SQLITE_DONE else { throw unsafe Self.failure(database) }
        return .new
    }

    /// Runs `body` so that all or nothing of what it puts in is there afterwards.
    public func transaction<Result, Failure: Error>(
        wrapping: (SharedPagesError) -> Failure, _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        func execute(_ statement: String) throws(Failure) {
            do throws(SharedPagesError) { try unsafe Self.execute(statement, in: database) } catch {
                throw wrapping(error)
            }
        }
        try execute("BEGIN IMMEDIATE")
        let result: Result
        do throws(Failure) { result = try body() } catch {
            try? unsafe Self.execute("ROLLBACK", in: database)
            throw error
        }
        try execute("COMMIT")
        return result
    }

    public func pageCount() throws(SharedPagesError) -> Int {
        Int(try unsafe Self.number("SELECT count(*) FROM page", in: database))
    }

    /// Names of pages whose content does not have them, ascending.
    public func wrongPages() throws(SharedPagesError) -> [PageHash] {
        var wrong: [PageHash] = []
        for name in try names() {
            do throws(SharedPagesError) { _ = try content(name) } catch {
                guard case .wrongPage = error else { throw error }
                wrong.append(name)
            }
        }
        return wrong
    }

    /// Takes out all pages but those of `names`, and gives their room back.
    ///
    /// - Returns: how many went.
    public func keepOnly(_ names: Set<PageHash>) throws(SharedPagesError) -> Int {
        let unused = try self.names().filter { !names.contains($0) }
        try transaction(wrapping: { $0 }) { () throws(SharedPagesError) in
            let deleting = try unsafe Self.prepare("DELETE FROM page WHERE name = ?", in: database)
            defer { unsafe sqlite3_finalize(deleting) }
            for name in unused {
                try unsafe bind(name, to: deleting)
                guard unsafe sqlite3_step(deleting) == SQLITE_DONE else { throw unsafe Self.failure(database) }
                unsafe sqlite3_reset(deleting)
            }
        }
        if !unused.isEmpty { try unsafe Self.execute("VACUUM", in: database) }
        return unused.count
    }

    private func names() throws(SharedPagesError) -> [PageHash] {
        let listing = try unsafe Self.prepare("SELECT name FROM page ORDER BY name", in: database)
        defer { unsafe sqlite3_finalize(listing) }
        var names: [PageHash] = []
        while true {
            switch unsafe sqlite3_step(listing) {
            case SQLITE_DONE: return names
            case SQLITE_ROW:
                if let name = PageHash(bytes: unsafe Self.bytes(of: listing, column: 0)) { names.append(name) }
            default: throw unsafe Self.failure(database)
            }
        }
    }

    // MARK: - SQLite

    @unsafe private func bind(_ name: PageHash, to statement: OpaquePointer?) throws(SharedPagesError) {
        try unsafe bind(name.bytes, to: statement, at: 1)
    }

    @unsafe private func bind(_ bytes: [UInt8], to statement: OpaquePointer?, at place: Int32) throws(SharedPagesError)
    {
        // SAFETY: SQLITE_TRANSIENT, the number -1, has the bytes copied before the call returns.
        let transient = unsafe unsafeBitCast(-1, to: sqlite3_destructor_type.self)
        let code = unsafe bytes.withUnsafeBytes {
            unsafe sqlite3_bind_blob(statement, place, $0.baseAddress, Int32($0.count), transient)
        }
        guard code == SQLITE_OK else { throw unsafe Self.failure(database) }
    }

    @unsafe private static func bytes(of statement: OpaquePointer, column: Int32) -> [UInt8] {
        // SAFETY: the pointer is valid until the statement steps on; the bytes are copied here.
        let count = unsafe Int(sqlite3_column_bytes(statement, column))
        guard count > 0, let base = unsafe sqlite3_column_blob(statement, column) else { return [] }
        return unsafe Array(UnsafeRawBufferPointer(start: base, count: count))
    }

    @unsafe private static func prepare(
        _ text: String, in database: OpaquePointer
    ) throws(SharedPagesError) -> OpaquePointer {
        var statement: OpaquePointer?
        guard unsafe sqlite3_prepare_v2(database, text, -1, &statement, nil) == SQLITE_OK,
            let statement = unsafe statement
        else { throw unsafe failure(database) }
        return unsafe statement
    }

    @unsafe private static func execute(_ text: String, in database: OpaquePointer) throws(SharedPagesError) {
        guard unsafe sqlite3_exec(database, text, nil, nil, nil) == SQLITE_OK else { throw unsafe failure(database) }
    }

    @unsafe private static func number(_ text: String, in database: OpaquePointer) throws(SharedPagesError) -> Int64 {
        let statement = try unsafe prepare(text, in: database)
        defer { unsafe sqlite3_finalize(statement) }
        guard unsafe sqlite3_step(statement) == SQLITE_ROW else { throw unsafe failure(database) }
        return unsafe sqlite3_column_int64(statement, 0)
    }

    @unsafe private static func failure(_ database: OpaquePointer) -> SharedPagesError {
        unsafe .database(
            code: sqlite3_extended_errcode(database), message: String(cString: sqlite3_errmsg(database)))
    }
}

extension PageHash {
    /// High half, low half, each with its highest byte first, so that they sort as numbers do.
    fileprivate var bytes: [UInt8] {
        [high, low].flatMap { half in (0..<8).map { UInt8(truncatingIfNeeded: half >> (56 - 8 * $0)) } }
    }

    fileprivate init?(bytes: [UInt8]) {
        guard bytes.count == 16 else { return nil }
        let halves = bytes.reduce(into: (high: UInt64(0), low: UInt64(0))) { halves, byte in
            halves.high = halves.high << 8 | halves.low >> 56
            halves.low = halves.low << 8 | UInt64(byte)
        }
        self.init(high: halves.high, low: halves.low)
    }
}
