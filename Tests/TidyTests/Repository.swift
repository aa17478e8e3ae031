// The checked-out tree as the tidy tests read it: files by folder, their lines, and the manifest's targets.

import Foundation

struct SourceFile: Sendable {
    /// Relative to the root of the repository.
    var path: String
    var text: String
    var lines: [Substring] { text.split(separator: "\n", omittingEmptySubsequences: false) }
}

enum Repository {
    /// This file stands in Tests/TidyTests of the tree it checks.
    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    /// Text files below `folders` whose names end in one of `extensions`, by path. Hidden and built files are left out.
    static func files(in folders: [String], extensions: Set<String>) throws -> [SourceFile] {
        var found: [SourceFile] = []
        for folder in folders {
            guard
                let walk = FileManager.default.enumerator(
                    at: root.appending(path: folder), includingPropertiesForKeys: [.isRegularFileKey],
                    options: [.skipsHiddenFiles])
            else { continue }
            for case let url as URL in walk where extensions.contains(url.pathExtension) {
                let text = try String(contentsOf: url, encoding: .utf8)
                found.append(SourceFile(path: relative(url), text: text))
            }
        }
        return found.sorted { $0.path < $1.path }
    }

    /// The Markdown files of the root and of the folders that hold documentation.
    static func documents() throws -> [SourceFile] {
        let top = try FileManager.default.contentsOfDirectory(at: root, includingPropertiesForKeys: nil)
            .filter { $0.pathExtension == "md" }
            .map { SourceFile(path: relative($0), text: try String(contentsOf: $0, encoding: .utf8)) }
        let below = try files(in: ["Docs", "Samples", "Benchmarks", "Fuzz", "Sources", "Tests"], extensions: ["md"])
        return (top + below).sorted { $0.path < $1.path }
    }

    static func exists(_ path: String) -> Bool {
        FileManager.default.fileExists(atPath: root.appending(path: path).standardizedFileURL.path)
    }

    static func relative(_ url: URL) -> String {
        String(url.standardizedFileURL.path.dropFirst(root.standardizedFileURL.path.count))
            .trimmingPrefix("/").description
    }
}

/// One target of Package.swift: its name, folder and the names of what it depends on.
struct ManifestTarget: Sendable {
    var name: String
    var folder: String
    var isTest: Bool
    var isSystemLibrary: Bool
    var dependencies: Set<String>
}

struct ManifestUnreadable: Error { var status: Int32 }

enum Manifest {
    /// `swift package dump-package`, with a scratch folder of its own: the running `swift test` holds the usual one.
    static let targets: Result<[ManifestTarget], any Error> = Result { try load() }

    private static func load() throws -> [ManifestTarget] {
        let scratch = FileManager.default.temporaryDirectory.appending(path: "tidy-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: scratch) }
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = [
            "swift", "package", "--package-path", Repository.root.path, "--scratch-path", scratch.path, "dump-package",
        ]
        let output = Pipe()
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw ManifestUnreadable(status: process.terminationStatus) }

        let description = try JSONDecoder().decode(Description.self, from: data)
        return description.targets.map { target in
            ManifestTarget(
                name: target.name,
                folder: target.path ?? "\(target.type == "test" ? "Tests" : "Sources")/\(target.name)",
                isTest: target.type == "test",
                isSystemLibrary: target.type == "system-target" || target.type == "system",
                dependencies: Set(target.dependencies.compactMap(\.name)))
        }
    }

    private struct Description: Decodable {
        struct Target: Decodable {
            var name: String
            var type: String
            var path: String?
            var dependencies: [Dependency]
        }
        /// `{"byName": ["NVMM", null]}` or `{"product": ["ArgumentParser", "swift-argument-parser", ...]}`.
        struct Dependency: Decodable {
            var name: String?
            private struct Key: CodingKey {
                var stringValue: String
                var intValue: Int? { nil }
                init?(stringValue: String) { self.stringValue = stringValue }
                init?(intValue: Int) { nil }
            }
            init(from decoder: any Decoder) throws {
                let container = try decoder.container(keyedBy: Key.self)
                for key in container.allKeys {
                    var list = try container.nestedUnkeyedContainer(forKey: key)
                    name = try list.decodeIfPresent(String.self)
                }
            }
        }
        var targets: [Target]
    }
}
