// Symbols of a guest: a System.map, and ELF files as nm(1) reads them.

import Analysis
import Foundation
import TestSupport
import Testing

@Suite struct SymbolTableTests {
    @Test func `the function at or before an address is found`() throws {
        let map = """
            0000000000001000 T start
            0000000000001010 t helper
            0000000000001018 D data
            ffffffff81000000 T kernel_main\t[module]
            """
        let symbols = try SymbolTable(Array(map.utf8))
        #expect(symbols.name(of: 0xFFF) == nil)
        #expect(symbols.name(of: 0x1000) == "start")
        #expect(symbols.name(of: 0x100F) == "start+0xf")
        #expect(symbols.name(of: 0x1018) == "helper+0x8")
        #expect(symbols.name(of: 0xFFFF_FFFF_8100_0004)?.hasPrefix("kernel_main") == true)
        #expect(symbols.name(of: 0x1010 + (1 << 20)) == nil)
        #expect(symbols.name(of: .max) == nil)
    }

    @Test func `what is no map is named`() {
        func error(_ text: String) -> SymbolTableError? {
            do throws(SymbolTableError) {
                _ = try SymbolTable(Array(text.utf8))
                return nil
            } catch { return error }
        }
        #expect(error("") == .empty)
        #expect(error("0000000000001000 D data\n") == .empty)
        #expect(error("0000000000001000 T start\nhello\n") == .line(2))
        #expect(error("10000000000001000 T start\n") == .line(1))
        #expect(error("\u{7F}ELF") == .damagedELF)
    }

    private static let library = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
        .appending(path: "libvmtrace.so")
    private static let tool = Requirement.tool("nm")

    @Test(.enabled(if: tool.isMet && FileManager.default.fileExists(atPath: library.path)))
    func `functions of an ELF file are those that nm finds`() throws {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["nm", "--defined-only", Self.library.path]
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        let symbols = try SymbolTable(Array(Data(contentsOf: Self.library)))
        var names: [UInt64: Set<String>] = [:]
        for line in output.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count == 3, ["t", "T"].contains(words[1]), let address = UInt64(words[0], radix: 16) else {
                continue
            }
            names[address, default: []].insert(String(words[2]))
        }
        #expect(names.count > 50)
        for (address, known) in names {
            let found = try #require(symbols.name(of: address))
            #expect(known.contains(found), "\(found) at \(address)")
        }
    }

    @Test(.enabled(if: FileManager.default.fileExists(atPath: library.path)))
    func `a damaged ELF file gives symbols or an error`() throws {
        let whole = try Array(Data(contentsOf: Self.library))
        var generator = SeededGenerator(seed: 26)
        var errors = 0
        for _ in 0..<200 {
            var bytes = whole
            // Its headers, then anything.
            for _ in 0..<4 {
                bytes[Int.random(in: 4..<64, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            }
            if Bool.random(using: &generator) {
                bytes.removeLast(Int.random(in: 0..<bytes.count - 8, using: &generator))
            }
            do { _ = try SymbolTable(bytes) } catch { errors += 1 }
        }
        #expect(errors > 20)
    }
}
