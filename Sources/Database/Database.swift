// SQLite behind a safe face: https://www.sqlite.org/c3ref/intro.html.

internal import CSQLite

/// What SQLite said: its extended result code, and its words.
public struct DatabaseError: Error, Equatable, Sendable {
    public var code: Int32
    public var message: String

    /// The file cannot be opened: SQLITE_CANTOPEN.
    public var isMissingFile: Bool { code & 0xFF == 14 }

    public init(code: Int32, message: String) {
        self.code = code
        self.message = message
    }
}

/// One connection. Not to be used from two threads at once; several processes may read while one writes.
@safe public final class Database {
    public enum Access: Sendable { case reading, writing, creating }

    fileprivate let handle: OpaquePointer
    /// How long a process waits for another one that writes.
    private static let busyMilliseconds: Int32 = 60_000

    /// - Parameter access: with `reading` and `writing`, an error where there is no file.
    public init(_ path: String, _ access: Access) throws(DatabaseError) {
        var flags = SQLITE_OPEN_NOMUTEX
        switch access {
        case .reading: flags |= SQLITE_OPEN_READONLY
        case .writing: flags |= SQLITE_OPEN_READWRITE
        case .creating: flags |= SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
        }
        var opened: OpaquePointer?
        // SAFETY: the path lives for the call; the handle is closed where opening failed, too.
        let code = unsafe sqlite3_open_v2(path, &opened, flags, nil)
        guard let handle = unsafe opened else {
            throw DatabaseError(code: code, message: unsafe String(cString: sqlite3_errstr(code)))
        }
        guard code == SQLITE_OK else {
            let failure = unsafe Self.failure(handle)
            unsafe sqlite3_close_v2(handle)
            throw failure
        }
        unsafe sqlite3_busy_timeout(handle, Self.busyMilliseconds)
        unsafe self.handle = unsafe handle
    }

    // Statements hold their database: none is left.
    deinit { unsafe sqlite3_close_v2(handle) }

    /// Runs statements that give no rows.
    public func execute(_ statements: String) throws(DatabaseError) {
        guard unsafe sqlite3_exec(handle, statements, nil, nil, nil) == SQLITE_OK else {
            throw unsafe Self.failure(handle)
        }
    }

    public func prepare(_ statement: String) throws(DatabaseError) -> DatabaseStatement {
        var prepared: OpaquePointer?
        guard unsafe sqlite3_prepare_v2(handle, statement, -1, &prepared, nil) == SQLITE_OK,
            let prepared = unsafe prepared
        else { throw unsafe Self.failure(handle) }
        return unsafe DatabaseStatement(prepared, of: self)
    }

    /// The first column of the first row.
    public func integer(_ query: String) throws(DatabaseError) -> Int64 {
        let statement = try prepare(query)
        guard try statement.step() else { throw DatabaseError(code: SQLITE_DONE, message: "no row") }
        return statement.integer(at: 0)
    }

    /// Runs `body` so that all or nothing of what it writes is there afterwards.
    public func transaction<Result, Failure: Error>(
        wrapping: (DatabaseError) -> Failure, _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        func run(_ statement: String) throws(Failure) {
            do throws(DatabaseError) { try execute(statement) } catch { throw wrapping(error) }
        }
        try run("BEGIN IMMEDIATE")
        let result: Result
        do throws(Failure) { result = try body() } catch {
            try? execute("ROLLBACK")
            throw error
        }
        try run("COMMIT")
        return result
    }

    @unsafe fileprivate static func failure(_ handle: OpaquePointer) -> DatabaseError {
        unsafe DatabaseError(code: sqlite3_extended_errcode(handle), message: String(cString: sqlite3_errmsg(handle)))
    }
}

/// A prepared statement; places of values count from 1, of columns from 0.
@safe public final class DatabaseStatement {
    private let statement: OpaquePointer
    private let database: Database

    @unsafe fileprivate init(_ statement: OpaquePointer, of database: Database) {
        unsafe self.statement = unsafe statement
        self.database = database
    }

    deinit { unsafe sqlite3_finalize(statement) }

    /// - Parameter value: nil for NULL.
    public func bind(_ value: Int64?, at place: Int32) throws(DatabaseError) {
        try check(
            unsafe value.map { unsafe sqlite3_bind_int64(statement, place, $0) }
                ?? sqlite3_bind_null(statement, place))
    }

    /// - Parameter value: nil for NULL.
    public func bind(_ value: String?, at place: Int32) throws(DatabaseError) {
        guard let value else { return try bind(nil as Int64?, at: place) }
        try check(unsafe sqlite3_bind_text(statement, place, value, -1, Self.transient))
    }

    public func bind(_ bytes: [UInt8], at place: Int32) throws(DatabaseError) {
        try check(
            unsafe bytes.withUnsafeBytes {
                unsafe sqlite3_bind_blob(statement, place, $0.baseAddress, Int32($0.count), Self.transient)
            })
    }

    /// - Returns: whether there is a row.
    public func step() throws(DatabaseError) -> Bool {
        switch unsafe sqlite3_step(statement) {
        case SQLITE_ROW: return true
        case SQLITE_DONE: return false
        default: throw unsafe Database.failure(database.handle)
        }
    }

    /// So that it can run again; values stay bound.
    public func reset() { unsafe sqlite3_reset(statement) }

    public func integer(at column: Int32) -> Int64 { unsafe sqlite3_column_int64(statement, column) }

    public func bytes(at column: Int32) -> [UInt8] {
        // SAFETY: the pointer is valid until the statement steps on; the bytes are copied here.
        let count = unsafe Int(sqlite3_column_bytes(statement, column))
        guard count > 0, let base = unsafe sqlite3_column_blob(statement, column) else { return [] }
        return unsafe Array(UnsafeRawBufferPointer(start: base, count: count))
    }

    private func check(_ code: Int32) throws(DatabaseError) {
        guard code == SQLITE_OK else { throw unsafe Database.failure(database.handle) }
    }

    /// SQLITE_TRANSIENT, the number -1, which the header's macro casts to a pointer: SQLite copies what is bound.
    private static var transient: sqlite3_destructor_type? {
        unsafe unsafeBitCast(-1, to: sqlite3_destructor_type.self)
    }
}
