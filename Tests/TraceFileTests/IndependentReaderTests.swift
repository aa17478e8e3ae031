// Programs that share no code with ours read the same: Samples/read_trace.py, and the zstd command.

import Glibc
import NVMM
import SystemPackage
import TestSupport
import Testing

@testable import TraceFile

/// Output and status of a shell command.
func shell(_ command: String) -> (output: [UInt8], status: Int32) {
    guard let pipe = unsafe popen(command, "r") else { return ([], -1) }
    var output: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    while true {
        let count = unsafe fread(&buffer, 1, buffer.count, pipe)
        if count == 0 { break }
        output += buffer[0..<count]
    }
    return (output, unsafe pclose(pipe) >> 8 & 0xFF)
}

@Suite struct IndependentReaderTests {
    static let script = GoldenTests.corpus.removingLastComponent().removingLastComponent()
        .appending("read_trace.py").string
    static let hasPython = shell("/usr/bin/python3 -c 'import xxhash, zstandard' 2>/dev/null").status == 0
    static let hasZstd = shell("zstd --version >/dev/null 2>&1").status == 0

    @Test(.enabled(if: hasPython, "needs python3-xxhash and python3-zstandard"))
    func `the reader in Python sees every exit and its RIP`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("random.vmtrace")
        let events = try writeRandomTrace(path, seed: 77, vcpus: 3, count: 2000, keyframeEvery: 300)
        let result = shell("/usr/bin/python3 \(Self.script) \(path.string)")
        #expect(result.status == 0)
        let lines = String(decoding: result.output, as: UTF8.self).split(separator: "\n")
        let all = steps(events)
        #expect(lines.count == all.count)
        for (index, (line, step)) in zip(lines, all).enumerated() where step.coverage.contains(.gprs) {
            let rip = String(step.state[.rip], radix: 16)
            let start = "\(index) vcpu=\(step.vcpu) rip=0x\(rip) \(step.exit.reason.name)"
            guard line.hasPrefix(start) else {
                Issue.record("\(line) is not \(start)")
                return
            }
        }
        let stats = String(
            decoding: shell("/usr/bin/python3 \(Self.script) --stats \(path.string)").output, as: UTF8.self)
        for total in try TraceReader(path: path).totals.exits {
            #expect(stats.contains("\"\(total.name)\": \(total.count)"))
        }
    }

    @Test(.enabled(if: hasZstd, "needs the zstd command"))
    func `the zstd command decompresses our frames`() throws {
        let folder = TemporaryFolder()
        let content = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* $0 >> 5) }
        try store(try Compressor(level: 3).compress(content), folder.file("ours.zst"))
        #expect(shell("zstd -dcq \(folder.file("ours.zst").string)").output == content)
        try store(content, folder.file("plain"))
        let theirs = shell("zstd -19 -cq \(folder.file("plain").string)").output
        #expect(
            try Decompressor().decompress(theirs[...], byteCount: content.count, place: TracePlace(frame: 0))
                == content)
    }
}
