// A store of guest pages that many traces share, in one SQLite database: Docs/trace-format.md, "Shared pages frame".

public import Database
import NVMM
public import SystemPackage

/// Failures of a store of shared pages.
public enum SharedPagesError: Error, Equatable, Sendable {
    /// There is no store where the trace's pages should be.
    case absent(path: String)
    /// The store has no page of this name.
    case missingPage(PageHash)
    case database(DatabaseError)
    /// The content under this name has another hash, or is no page.
    case wrongPage(PageHash)
    /// The store was made by a version that this one does not know.
    case unknownVersion(Int64)
}

/// Pages of guest memory by the XXH3-128 of their content, each compressed by itself.
///
/// Not to be used from two threads at once; open it twice for that. Several processes may read while one writes.
public final class SharedPages {
    /// Of the store beside the folder in which its traces stand.
    public static let fileName = "pages.sqlite"

    /// What an insertion found.
    enum Insertion { case new, known, collides }

    private let database: Database
    private let selecting: DatabaseStatement
    private let inserting: DatabaseStatement?
    private let compressor: Compressor?
    private let decompressor = Decompressor()
    private static let version: Int64 = 1

    /// - Throws: ``SharedPagesError``; with `reading` and `writing`, ``SharedPagesError/absent(path:)`` where there is
    ///   no file.
    public init(_ path: FilePath, _ access: Database.Access) throws(SharedPagesError) {
        do throws(DatabaseError) {
            database = try Database(path.string, access)
            if access == .creating {
                try database.execute(
                    """
                    PRAGMA page_size = 16384;
                    CREATE TABLE IF NOT EXISTS page (
                        number INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, content BLOB NOT NULL);
                    PRAGMA user_version = \(Self.version);
                    """)
            }
        } catch {
            if error.isMissingFile, access != .creating { throw .absent(path: path.string) }
            throw .database(error)
        }
        let version: Int64
        do throws(DatabaseError) { version = try database.integer("PRAGMA user_version") } catch {
            throw .database(error)
        }
        guard version == Self.version else { throw .unknownVersion(version) }
        do throws(DatabaseError) {
            selecting = try database.prepare("SELECT content FROM page WHERE name = ?")
            inserting =
                access == .reading ? nil : try database.prepare("INSERT INTO page (name, content) VALUES (?, ?)")
        } catch { throw .database(error) }
        compressor = access == .reading ? nil : try? Compressor(level: 9)
    }

    // MARK: - Pages

    /// - Returns: 4,096 bytes, held against their name; nil where the store has none of it.
    public func content(_ name: PageHash) throws(SharedPagesError) -> [UInt8]? {
        let stored: [UInt8]
        do throws(DatabaseError) {
            defer { selecting.reset() }
            try selecting.bind(name.bytes, at: 1)
            guard try selecting.step() else { return nil }
            stored = selecting.bytes(at: 0)
        } catch { throw .database(error) }
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
        guard let inserting, let compressed = try? compressor?.compress(Array(content)) else {
            throw .database(DatabaseError(code: 8, message: "opened for reading"))
        }
        do throws(DatabaseError) {
            defer { inserting.reset() }
            try inserting.bind(name.bytes, at: 1)
            try inserting.bind(compressed, at: 2)
            _ = try inserting.step()
        } catch { throw .database(error) }
        return .new
    }

    /// Runs `body` so that all or nothing of what it puts in is there afterwards.
    func transaction<Result, Failure: Error>(
        wrapping: (SharedPagesError) -> Failure, _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try database.transaction(wrapping: { wrapping(.database($0)) }, body)
    }

    public func pageCount() throws(SharedPagesError) -> Int {
        do throws(DatabaseError) { return Int(try database.integer("SELECT count(*) FROM page")) } catch {
            throw .database(error)
        }
    }

    /// Takes out all pages but those of `names`, and gives their room back.
    ///
    /// - Returns: how many went.
    public func keepOnly(_ names: Set<PageHash>) throws(SharedPagesError) -> Int {
        let unused = try self.names().filter { !names.contains($0) }
        if unused.isEmpty { return 0 }
        do throws(DatabaseError) {
            try database.transaction(wrapping: { $0 }) { () throws(DatabaseError) in
                let deleting = try database.prepare("DELETE FROM page WHERE name = ?")
                for name in unused {
                    try deleting.bind(name.bytes, at: 1)
                    _ = try deleting.step()
                    deleting.reset()
                }
            }
            try database.execute("VACUUM")
        } catch { throw .database(error) }
        return unused.count
    }

    private func names() throws(SharedPagesError) -> [PageHash] {
        do throws(DatabaseError) {
            let listing = try database.prepare("SELECT name FROM page ORDER BY name")
            var names: [PageHash] = []
            while try listing.step() {
                if let name = PageHash(bytes: listing.bytes(at: 0)) { names.append(name) }
            }
            return names
        } catch { throw .database(error) }
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
