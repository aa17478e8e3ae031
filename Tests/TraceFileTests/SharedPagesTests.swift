// Traces whose pages are in a store that they share.

import Database
import Glibc
import NVMM
import SystemPackage
import TestSupport
import Testing

@testable import TraceFile

/// A corpus-like place: `traces/` and the store beside it.
private final class Place {
    private let outer = TemporaryFolder()
    private let traces: FilePath
    var store: FilePath { outer.file("pages.sqlite") }

    init() throws {
        traces = outer.file("traces")
        #expect(unsafe mkdir(traces.string, 0o700) == 0)
    }

    func original(_ name: String) -> FilePath { outer.file(name) }
    func shared(_ name: String) -> FilePath { traces.appending(name) }

    /// A random trace of many pages, and its copy with shared pages.
    func share(_ name: String, seed: UInt64) throws -> ShareReport {
        var options = TraceWriterOptions()
        options.keyframesPerFullKeyframe = 3
        _ = try writeRandomTrace(
            original(name), seed: seed, vcpus: 2, count: 300, options: options, keyframeEvery: 40, pageCount: 64)
        return try shareTrace(path: original(name), output: shared(name), pages: SharedPages(store, .creating))
    }

    /// What only somebody else would do to a store.
    func execute(_ statement: String) throws { try Database(store.string, .writing).execute(statement) }

    deinit {
        for name in ["a", "b", "back"] { unsafe unlink(shared(name).string) }
        unsafe rmdir(traces.string)
    }
}

@Suite struct SharedPagesTests {
    @Test func `a trace with shared pages reads as the one that it was made of, and becomes the same bytes again`()
        throws
    {
        let place = try Place()
        let report = try place.share("a", seed: 1)
        #expect(report.pagesAdded > 100)
        #expect(report.pagesKnown == 0)
        let (whole, shared) = (try TraceReader(path: place.original("a")), try TraceReader(path: place.shared("a")))
        expectEqual(try allEvents(shared), try allEvents(whole))
        for name in try shared.sharedPageNames() { #expect(try shared.page(name) == whole.page(name)) }
        #expect(try contents(place.shared("a")).count < contents(place.original("a")).count)
        #expect(try verifyTrace(path: place.shared("a")).isIntact)
        try wholeTrace(path: place.shared("a"), output: place.shared("back"))
        #expect(try contents(place.shared("back")) == contents(place.original("a")))
    }

    @Test func `pages that the store has are not stored again`() throws {
        let place = try Place()
        let first = try place.share("a", seed: 1)
        let before = try SharedPages(place.store, .reading).pageCount()
        #expect(before == first.pagesAdded)
        let second = try place.share("b", seed: 1)
        #expect(second.pagesAdded == 0)
        #expect(second.pagesKnown == first.pagesAdded)
        #expect(try SharedPages(place.store, .reading).pageCount() == before)
    }

    @Test func `a copy of a copy has its pages in the other store`() throws {
        let (place, other) = (try Place(), try Place())
        let report = try place.share("a", seed: 2)
        let again = try shareTrace(
            path: place.shared("a"), output: other.shared("a"), pages: SharedPages(other.store, .creating))
        #expect(again.pagesAdded == report.pagesAdded)
        #expect(try contents(other.shared("a")) == contents(place.shared("a")))
        #expect(try verifyTrace(path: other.shared("a")).isIntact)
    }

    @Test func `a wrong page is found by its hash and named`() throws {
        let place = try Place()
        _ = try place.share("a", seed: 3)
        let reader = try TraceReader(path: place.shared("a"))
        let names = try reader.sharedPageNames().sorted { ($0.high, $0.low) < ($1.high, $1.low) }
        let (victim, other) = (names[0], names[1])
        let swap = "CASE page.name WHEN \(victim.literal) THEN \(other.literal) ELSE \(victim.literal) END"
        try place.execute(
            """
            CREATE TEMP TABLE kept AS SELECT name, content FROM page
            WHERE name IN (\(victim.literal), \(other.literal));
            UPDATE page SET content =
            (SELECT kept.content FROM kept WHERE kept.name = \(swap))
            WHERE name IN (\(victim.literal), \(other.literal));
            """)
        #expect(throws: TraceError.sharedPages(.wrongPage(victim))) { try reader.page(victim) }
        #expect(throws: TraceError.sharedPages(.wrongPage(other))) { try reader.page(other) }
        #expect(try verifyTrace(path: place.shared("a")).problems.contains(.sharedPages(.wrongPage(victim))))
    }

    @Test func `a trace that would rely on a wrong page is not added, and none of its pages is`() throws {
        let place = try Place()
        _ = try place.share("a", seed: 4)
        let count = try SharedPages(place.store, .reading).pageCount()
        let name = try #require(TraceReader(path: place.shared("a")).sharedPageNames().first)
        // As many pages that are new come before it in the next trace as there may be.
        try place.execute("UPDATE page SET content = x'00' WHERE name = \(name.literal)")
        #expect(throws: ShareError.pages(.wrongPage(name))) { try place.share("b", seed: 4) }
        #expect(try SharedPages(place.store, .reading).pageCount() == count)
    }

    @Test func `what is missing is said`() throws {
        let place = try Place()
        _ = try place.share("a", seed: 5)
        let names = try TraceReader(path: place.shared("a")).sharedPageNames()
        let kept = Set(names.sorted { ($0.high, $0.low) < ($1.high, $1.low) }.prefix(3))
        #expect(try SharedPages(place.store, .writing).keepOnly(kept) == names.count - 3)
        #expect(try SharedPages(place.store, .reading).pageCount() == 3)
        let gone = try #require(names.subtracting(kept).first)
        let reader = try TraceReader(path: place.shared("a"))
        #expect(throws: TraceError.sharedPages(.missingPage(gone))) { try reader.page(gone) }
        unsafe unlink(place.store.string)
        let alone = try TraceReader(path: place.shared("a"))
        #expect {
            _ = try alone.page(gone)
        } throws: { error in
            if case TraceError.sharedPages(.absent) = error { true } else { false }
        }
        // All that needs no page is there.
        #expect(try allEvents(alone).count > 300)
    }

    @Test func `what is no store is refused`() throws {
        let place = try Place()
        try store(Array("no database at all, but long enough to be taken for one".utf8), place.store)
        #expect {
            _ = try SharedPages(place.store, .reading)
        } throws: { error in
            if case SharedPagesError.database = error { true } else { false }
        }
        try store([], place.store)
        #expect(throws: SharedPagesError.unknownVersion(0)) { _ = try SharedPages(place.store, .reading) }
    }
}

extension PageHash {
    /// As SQLite writes a blob.
    fileprivate var literal: String { "x'\(hexadecimal)'" }
}
