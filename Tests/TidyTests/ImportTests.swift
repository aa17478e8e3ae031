// The arrows between rooms, held: imports against Package.swift, Package.swift against ARCHITECTURE.md.

import Testing

/// Modules of the toolchain that any room may import, and those that the vocabulary must do without.
private let toolchainModules: Set<String> = [
    "Darwin", "Dispatch", "Foundation", "FoundationEssentials", "FoundationXML", "Glibc", "Synchronization", "Testing",
]
private let vocabularyModules: Set<String> = ["Synchronization"]

/// `import` lines of a file with the module they name.
private func imports(of file: SourceFile) -> [(line: Int, module: String)] {
    let pattern =
        #/
        ^\s* (?:@\w+(?:\([^)]*\))?\s+)*
        (?:(?:public|package|internal|fileprivate|private)\s+)?
        import\s+ (?:(?:struct|class|enum|protocol|typealias|func|var|let)\s+)? (\w+)
        /#
    return codeOnly(file.text).split(separator: "\n", omittingEmptySubsequences: false).enumerated()
        .compactMap { number, line in
            line.firstMatch(of: pattern).map { (number + 1, String($0.1)) }
        }
}

/// A row of ARCHITECTURE.md's table of rooms.
private struct Room {
    var name: String
    var imports: Set<String>
}

private func roomsOfArchitecture() throws -> [Room] {
    let document = try #require(try Repository.documents().first { $0.path == "ARCHITECTURE.md" })
    var rooms: [Room] = []
    for line in document.lines where line.hasPrefix("| `Sources/") {
        let cells = line.split(separator: "|").map { $0.trimmingCharacters(" ") }
        guard cells.count == 3 else { continue }
        for name in cells[0].matches(of: /`Sources\/(\w+)`/) {
            let imports = cells[2].matches(of: /`(\w+)`/).map { String($0.1) }
            rooms.append(Room(name: String(name.1), imports: Set(imports)))
        }
    }
    return rooms
}

extension Substring {
    fileprivate func trimmingCharacters(_ sign: Character) -> Substring {
        var rest = self
        while rest.first == sign { rest.removeFirst() }
        while rest.last == sign { rest.removeLast() }
        return rest
    }
}

@Suite struct ImportTests {
    @Test func `every import names a dependency of its target in Package.swift`() throws {
        let targets = try Manifest.targets.get()
        #expect(targets.count > 20, "the manifest was read")
        for target in targets where !target.isSystemLibrary {
            let allowed = target.dependencies.union(target.name == "NVMM" ? vocabularyModules : toolchainModules)
            for file in try Repository.files(in: [target.folder], extensions: ["swift"]) {
                for (line, module) in imports(of: file) where module != target.name {
                    #expect(allowed.contains(module), "\(file.path):\(line) imports \(module)")
                }
            }
        }
    }

    @Test func `every dependency in Package.swift is imported by its target`() throws {
        for target in try Manifest.targets.get() where !target.isSystemLibrary && !target.isTest {
            let files = try Repository.files(in: [target.folder], extensions: ["swift"])
            // A target in C includes headers, whose names are not those of modules.
            if files.isEmpty { continue }
            let imported = Set(files.flatMap { imports(of: $0).map(\.module) })
            let unused = target.dependencies.subtracting(imported)
            #expect(unused.isEmpty, "\(target.name) lists but does not import \(unused.sorted())")
        }
    }

    @Test func `the rooms of ARCHITECTURE.md are the targets of Package.swift with the same arrows`() throws {
        let rooms = try roomsOfArchitecture()
        let targets = try Manifest.targets.get().filter { $0.folder.hasPrefix("Sources/") }
        #expect(Set(rooms.map(\.name)) == Set(targets.map(\.name)))
        for target in targets where !target.isSystemLibrary {
            let room = try #require(rooms.first { $0.name == target.name })
            #expect(room.imports == target.dependencies, "\(target.name)")
        }
    }

    @Test func `no room imports one that stands above it`() throws {
        let rooms = try roomsOfArchitecture()
        #expect(rooms.count > 10)
        for (position, room) in rooms.enumerated() {
            let below = Set(rooms[(position + 1)...].map(\.name))
            let upward = room.imports.intersection(rooms.map(\.name)).subtracting(below)
            #expect(upward.isEmpty, "\(room.name) imports \(upward.sorted())")
        }
    }
}
