// libFuzzer entry for everything that reads traces. It sees all of TraceFile, so that it can make checksums right after
// a mutation: the parser behind them is what is tested.

import Glibc
import NVMM
import SystemPackage

@testable import TraceFile

/// An unnamed file that is rewritten for each input.
private let descriptor = unsafe open("/dev/shm", 0o20000000 | O_DIRECTORY | O_RDWR, 0o600)  // O_TMPFILE
private let path = FilePath("/proc/self/fd/\(descriptor)")

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzTraceReader(_ data: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
    var bytes = unsafe Array(UnsafeBufferPointer(start: data, count: count))
    // "J": the rest is a journal's records.
    if bytes.first == 0x4A {
        bytes.removeFirst()
        fuzzJournal(bytes)
        return 0
    }
    makeChecksumsRight(&bytes)
    _ = ftruncate(descriptor, 0)
    _ = unsafe bytes.withUnsafeBytes { unsafe pwrite(descriptor, $0.baseAddress, $0.count, 0) }
    readEverything()
    return 0
}

private func readEverything() {
    guard let reader = try? TraceReader(path: path, limits: .tight) else { return }
    if let cursor = try? reader.cursor() {
        var failures = 0
        // A failing cursor goes on behind the damage; the file is small, so this ends.
        while failures < 1000 {
            do throws(TraceError) {
                guard let event = try cursor.next() else { break }
                if case .keyframe(let keyframe) = event {
                    for page in keyframe.objects.first?.pages.prefix(2) ?? [] { _ = try reader.page(page.content) }
                }
            } catch { failures += 1 }
        }
    }
    _ = try? reader.scanExits([.calls, .gpas, .injections, .retired, .steps, .time]) { _ in }
    for entry in reader.keyframes.prefix(4) { _ = try? reader.cursor(fromKeyframe: entry.index).next() }
    _ = try? verifyTrace(path: path, limits: .tight)
}

/// Sums in the preamble and in every frame, as long as lengths lead from frame to frame.
private func makeChecksumsRight(_ bytes: inout [UInt8]) {
    func put(_ value: UInt64, at offset: Int) {
        for index in 0..<8 { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt64(index))) }
    }
    guard bytes.count >= Preamble.byteCount else { return }
    put(checksum(bytes, 0..<32), at: 32)
    var offset = Preamble.byteCount
    while bytes.count - offset >= FrameHeader.byteCount {
        var stored = 0
        for index in 0..<4 { stored |= Int(bytes[offset + 8 + index]) << (8 * index) }
        // A length that a mutation made too large takes in all the rest.
        let room = bytes.count - offset - FrameHeader.byteCount
        if stored > room {
            stored = room
            for index in 0..<4 { bytes[offset + 8 + index] = UInt8(truncatingIfNeeded: stored >> (8 * index)) }
        }
        let payload = offset + FrameHeader.byteCount
        put(checksum(bytes, payload..<payload + stored), at: offset + 32)
        put(checksum(bytes, offset..<offset + 40), at: offset + 40)
        offset = payload + stored
    }
}

private func fuzzJournal(_ records: [UInt8]) {
    var bytes = records
    var offset = 0
    while bytes.count - offset >= 16 {
        var length = 0
        for index in 0..<4 { length |= Int(bytes[offset + index]) << (8 * index) }
        guard length >= 16, length % 8 == 0, length <= bytes.count - offset else { break }
        let sum = checksum(bytes, offset + 8..<offset + length)
        for index in 0..<4 { bytes[offset + 4 + index] = UInt8(truncatingIfNeeded: sum >> (8 * UInt64(index))) }
        offset += length
    }
    guard let compressor = try? Compressor(level: 0),
        let epoch = try? encodeEpoch(
            journal: bytes, isTrusted: false, epoch: 1, firstStep: 0, compressor: compressor)
    else { return }
    let decompressor = Decompressor()
    for frame in epoch.frames {
        guard
            let columns = try? BlockColumns(
                frame.payload, offset: 0, decompressor: decompressor, limits: .tight),
            let block = try? BlockDecoder(columns, vcpu: frame.header.vcpu, firstStep: 0, limits: .tight)
        else { continue }
        while (try? block.next()) != nil {}
        while (try? block.nextTrailing()) != nil {}
    }
}

// MARK: - Seeds

/// With VMTRACE_SEEDS set: writes the traces named by VMTRACE_CORPUS there, uncompressed, so that mutations meet the
/// columns and not zstd, and one journal; then ends.
@_cdecl("LLVMFuzzerInitialize")
public func prepareFuzz(_ count: UnsafeMutablePointer<Int32>, _ arguments: UnsafeMutableRawPointer) -> Int32 {
    guard let seeds = unsafe getenv("VMTRACE_SEEDS"), let corpus = unsafe getenv("VMTRACE_CORPUS") else { return 0 }
    let folder = FilePath(unsafe String(cString: seeds))
    let source = FilePath(unsafe String(cString: corpus))
    do {
        for name in ["tiny-v1", "mixed-v1"] {
            try rewrite(source.appending("\(name).vmtrace"), to: folder.appending("\(name)-raw"))
        }
    } catch {
        print("no seeds: \(error)")
        exit(1)
    }
    exit(0)
}

private func rewrite(_ source: FilePath, to target: FilePath) throws {
    let reader = try TraceReader(path: source)
    var options = TraceWriterOptions()
    options.compressionLevel = 0
    options.stepsPerBlock = 20
    let writer = try TraceWriter(.file(target), header: reader.header, options: options)
    let cursor = try reader.cursor()
    var steps = 0
    while let event = try cursor.next() {
        if case .keyframe(let keyframe) = event {
            for page in keyframe.objects.flatMap(\.pages) {
                let content = try reader.page(page.content)
                _ = try unsafe writer.storePage(content.span.bytes)
            }
        }
        try writer.append(event)
        if case .step = event { steps += 1 }
        // The open journal as a seed of the other kind.
        if steps == 15, let journal = try? JournalFile.all(
            besides: target.string, identity: journalIdentity(target), limits: .tight).last {
            let seed = try FileDescriptor.open(
                "\(target.string)-journal", .writeOnly, options: [.create, .truncate],
                permissions: FilePermissions(rawValue: 0o600))
            _ = try seed.closeAfter { try seed.writeAll([0x4A] + journal.records) }
        }
    }
    _ = try writer.finish()
}

private func journalIdentity(_ path: FilePath) throws -> UInt64 {
    let reader = try TraceReader(path: path)
    return checksum(try reader.source.read(0, Int(reader.startBytes)))
}
