// What the tracer knows of one memory object: the content of its pages as last seen, and who changed them since.

internal import NVMM
internal import TraceFile

/// Page table of one memory object: architecture.md, "Guest memory is an object mapped twice".
///
/// A page that neither the guest nor a logged write touched must hash as the table has it; one that does not
/// was stored to behind the interface. A class, so that its machine's table of them is changed in place.
final class ObjectLedger {
    let object: MemoryObject
    /// Whether ``MemoryObject/takeClientWrites()`` says what the client stored: nothing needs to be compared then.
    let isWatched: Bool
    /// Content of each page when it was last looked at.
    private(set) var hashes: [PageHash]
    /// What the page store calls each page's content as of the last keyframe: the hash, but for collisions.
    private var names: [PageHash]
    /// Written by the guest since the last look.
    private var guestDirty: PageSet
    /// Written through the machine's calls since the last look.
    private var written: PageSet
    /// Written by the guest since the client last asked for dirty pages.
    private var clientDirty: PageSet
    /// Changed since the page store last got them.
    private var unstored: PageSet
    /// Written by the client since the last look.
    private var clientWritten: PageSet
    /// Content as the trace has it, where it holds what the guest writes too.
    private var shadow: MemoryShadow?

    /// - Parameter keepsContent: ``takeGuestChanges(in:)`` will be asked.
    init(_ object: MemoryObject, keepsContent: Bool = false) {
        self.object = object
        hashes = Array(repeating: .zeroPage, count: object.pageCount)
        names = hashes
        guestDirty = PageSet(pageCount: object.pageCount)
        written = guestDirty
        clientDirty = guestDirty
        unstored = guestDirty
        clientWritten = guestDirty
        isWatched = object.takeClientWrites() != nil
        if keepsContent { shadow = MemoryShadow(byteCount: object.byteCount) }
    }

    /// Asks the object what the client wrote.
    ///
    /// - Returns: a page that was written since the last call, or nil.
    @discardableResult func noteClientWrites() -> Int? {
        guard let ranges = object.takeClientWrites() else { return nil }
        for range in ranges {
            for page in range where page < object.pageCount { clientWritten.insert(page) }
        }
        return ranges.first?.lowerBound
    }

    var hasClientWrites: Bool { !clientWritten.isEmpty }

    /// Pages that the client wrote and whose content is not as the table has it, or may hold what the guest wrote in
    /// between; the table then holds their content. Call after ``noteGuestDirty(_:)``.
    func takeClientWritten() -> [Int] {
        var found: [Int] = []
        for page in clientWritten.pages {
            let isChanged = rehash(page)
            if isChanged || guestDirty.contains(page) || written.contains(page) { found.append(page) }
        }
        noteLogged(found)
        clientWritten.removeAll()
        return found
    }

    /// Takes over the backend's list of dirty pages, which the backend forgets: the client's list is kept too.
    func noteGuestDirty(_ pages: [Int]) {
        for page in pages where hashes.indices.contains(page) {
            guestDirty.insert(page)
            clientDirty.insert(page)
        }
    }

    func takeClientDirtyPages() -> [Int] {
        defer { clientDirty.removeAll() }
        return clientDirty.pages
    }

    func noteWritten(_ range: Range<Int>) {
        guard !range.isEmpty else { return }
        for page in range.lowerBound / pageBytes...(range.upperBound - 1) / pageBytes { written.insert(page) }
        shadow?.take(range, from: object)
    }

    /// Looks at the pages that guest and logged writes changed.
    func rehashChanged() {
        for page in guestDirty.pages { rehash(page) }
        for page in written.pages { rehash(page) }
        guestDirty.removeAll()
        written.removeAll()
    }

    /// Pages among `candidates` that changed though nobody announced it; the table then holds their new content.
    func findRawStores(in candidates: some Sequence<Int>) -> [Int] {
        var found: [Int] = []
        for page in candidates where !guestDirty.contains(page) && !written.contains(page) && rehash(page) {
            found.append(page)
        }
        noteLogged(found)
        return found
    }

    /// As ``findRawStores(in:)``, among all pages that can have changed: one that was never accessed is zero still.
    func findRawStores() -> [Int] {
        if isWatched {
            noteClientWrites()
            return takeClientWritten()
        }
        var candidates = PageSet(pageCount: object.pageCount)
        for range in object.touchedPages {
            for page in range { candidates.insert(page) }
        }
        for page in hashes.indices where hashes[page] != .zeroPage { candidates.insert(page) }
        return findRawStores(in: candidates.pages)
    }

    /// Whole pages that the trace is given as they are now.
    private func noteLogged(_ pages: [Int]) {
        for page in pages { shadow?.take(page * pageBytes..<(page + 1) * pageBytes, from: object) }
    }

    /// What the guest changed in pages that it wrote, as bytes that the trace does not have yet. Empty unless the
    /// content is kept.
    func takeGuestChanges(in pages: [Int]) -> [(offset: Int, bytes: [UInt8])] {
        shadow?.takeChanges(in: pages, of: object) ?? []
    }

    /// - Returns: whether the content differs from the table's.
    @discardableResult private func rehash(_ page: Int) -> Bool {
        let hash = object.withBytes(page * pageBytes..<(page + 1) * pageBytes) { PageHash(content: $0) }
        guard hash != hashes[page] else { return false }
        hashes[page] = hash
        unstored.insert(page)
        return true
    }

    /// Pages that the page store does not hold as they are now; forgets them.
    func takeUnstored() -> [Int] {
        defer { unstored.removeAll() }
        return unstored.pages
    }

    func setName(_ name: PageHash, of page: Int) { names[page] = name }

    /// All pages that are not zero, by the names given.
    var image: Keyframe.ObjectImage {
        var pages: [Keyframe.PageReference] = []
        for (page, name) in names.enumerated() where name != .zeroPage {
            pages.append(Keyframe.PageReference(page: page, content: name))
        }
        return Keyframe.ObjectImage(object: object.ordinal, byteCount: object.byteCount, pages: pages)
    }
}
