// Documents against the tree: links that lead somewhere, test names that exist, promises that name their test.

import Testing

/// A Markdown link outside code blocks.
private struct Link {
    var place: String
    var text: String
    var target: String
}

private func links(of document: SourceFile) -> [Link] {
    var found: [Link] = []
    var inCode = false
    for (number, line) in document.lines.enumerated() {
        if line.hasPrefix("```") { inCode.toggle() }
        if inCode { continue }
        for match in line.matches(of: /\[((?:`[^`]*`|[^\]`])*)\]\(([^)\s]+)\)/) {
            found.append(
                Link(place: "\(document.path):\(number + 1)", text: String(match.1), target: String(match.2)))
        }
    }
    return found
}

/// Path in the repository that a link in `document` leads to; nil for the web and for places in the same page.
private func resolve(_ target: String, from document: SourceFile) -> String? {
    if target.contains("://") || target.hasPrefix("#") || target.hasPrefix("mailto:") { return nil }
    let path = target.prefix { $0 != "#" }
    var parts = document.path.split(separator: "/").dropLast().map(String.init)
    for part in path.split(separator: "/") {
        switch part {
        case ".": continue
        case "..": if parts.isEmpty { return "../" + path } else { parts.removeLast() }
        default: parts.append(String(part))
        }
    }
    return parts.joined(separator: "/")
}

@Suite struct DocumentTests {
    @Test func `every relative link leads to a file`() throws {
        let documents = try Repository.documents()
        #expect(documents.contains { $0.path == "README.md" })
        for document in documents {
            for link in links(of: document) {
                guard let path = resolve(link.target, from: document) else { continue }
                #expect(Repository.exists(path), "\(link.place): \(link.target)")
            }
        }
    }

    @Test func `every test that a document names exists in the file it links to`() throws {
        let tests = try Repository.files(in: ["Tests"], extensions: ["swift"])
        let texts = Dictionary(uniqueKeysWithValues: tests.map { ($0.path, $0.text) })
        for document in try Repository.documents() {
            for link in links(of: document) where link.text.hasPrefix("`") {
                guard let path = resolve(link.target, from: document) else { continue }
                guard path.hasPrefix("Tests/"), path.hasSuffix(".swift") else { continue }
                let name = link.text.trimmingPrefix("`").prefix { $0 != "`" }
                #expect(texts[path]?.contains("func `\(name)`(") ?? false, "\(link.place): \(name)")
            }
        }
    }

    @Test(arguments: ["ARCHITECTURE.md", "Docs/determinism.md"])
    func `every promise is linked to its test or marked not measured`(path: String) throws {
        let document = try #require(try Repository.documents().first { $0.path == path })
        // Rows of the tables whose last column is headed "held by".
        var inTable = false
        var promises = 0
        for (number, line) in document.lines.enumerated() {
            guard line.hasPrefix("|") else { inTable = false; continue }
            let cells = line.split(separator: "|")
            guard let last = cells.last else { continue }
            if last.contains("held by") { inTable = true; continue }
            guard inTable, !last.contains("---") else { continue }
            promises += 1
            #expect(
                last.contains("](") || last.contains("*not measured*"),
                "\(path):\(number + 1) names no test: \(last)")
        }
        #expect(promises >= 5, "\(path) has promises")
    }
}
