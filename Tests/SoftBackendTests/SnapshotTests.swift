// A machine put back is the machine that it was: registers, memory, code, clock, whatever came between.

import NVMM
import TestSupport
import Testing

@testable import SoftBackend

/// A guest that writes all over its memory, and into its own code.
private struct SnapshotGuest {
    let runner: CodeRunner
    var machine: any SnapshottingMachine

    init() throws {
        runner = try CodeRunner(
            .long,
            [
                0x48, 0x69, 0xC0, 0x6D, 0x4E, 0xC6, 0x41,  // again: imul rax, rax, 1103515245
                0x48, 0x05, 0x39, 0x30, 0, 0,  // add rax, 12345
                0x48, 0x89, 0xC3,  // mov rbx, rax
                0x48, 0xC1, 0xEB, 0x08,  // shr rbx, 8
                0x81, 0xE3, 0xF8, 0xFF, 0x0F, 0,  // and ebx, 0xFFFF8
                0x48, 0x89, 0x83, 0, 0, 0x10, 0,  // mov [rbx + 0x100000], rax
                0x00, 0x04, 0x25, 0x32, 0x10, 0, 0,  // add [0x1032], al: the immediate below
                0x48, 0x8D, 0x49, 0x01,  // lea rcx, [rcx + 1]
                0x0F, 0x1F, 0x40, 0x00,  // nop
                0x80, 0xC2, 0x00,  // add dl, 0
                0xEB, 0xCB,  // jmp again
            ])
        machine = try #require(runner.machine as? any SnapshottingMachine)
    }

    /// All that a guest or its client can see.
    func seen() throws -> [UInt64] {
        var seen = runner.state.withWords { words in words.indices.map { words[$0] } }
        seen.append(machine.clock)
        runner.ram.withBytes(0..<runner.ram.byteCount) { span in
            for offset in stride(from: 0, to: span.byteCount, by: 8) {
                seen.append(unsafe span.unsafeLoad(fromByteOffset: offset, as: UInt64.self))
            }
        }
        return seen
    }
}

@Suite struct SnapshotTests {
    @Test func `going back and forth gives what going straight on gives`() throws {
        let guest = try SnapshotGuest()
        // What is seen after each piece, of a machine that never goes back.
        let straight = try SnapshotGuest()
        let pieces: [UInt64] = [7, 100, 1, 3000, 64, 11, 977, 250]
        var expected: [[UInt64]] = [try straight.seen()]
        for piece in pieces {
            try straight.runner.run(piece)
            expected.append(try straight.seen())
        }
        #expect(Set(expected.map { $0.hashValue }).count == expected.count)

        var snapshots: [any MachineSnapshot] = [try guest.machine.takeSnapshot()]
        for piece in pieces {
            try guest.runner.run(piece)
            snapshots.append(try guest.machine.takeSnapshot())
        }
        var random = SeededGenerator(seed: 5)
        for _ in 0..<200 {
            let from = Int(random.next() % UInt64(snapshots.count))
            try guest.machine.restore(snapshots[from])
            #expect(snapshots[from].clock == guest.machine.clock)
            #expect(try guest.seen() == expected[from], "at \(from)")
            let to = min(pieces.count, from + Int(random.next() % 3))
            for piece in from..<to { try guest.runner.run(pieces[piece]) }
            #expect(try guest.seen() == expected[to], "from \(from) to \(to)")
            // A new one of the same place is as good, and the old ones stay.
            if random.next() % 4 == 0 { snapshots[to] = try guest.machine.takeSnapshot() }
        }
    }

    @Test func `what the client wrote is put back, and what it mapped`() throws {
        let guest = try SnapshotGuest()
        let machine = guest.machine
        let before = try machine.takeSnapshot()
        try guest.runner.write(0x3000, [1, 2, 3])
        try guest.runner.write(0x1000, [0xF4])  // hlt, in code that was not decoded yet
        try machine.gpaUnmap(gpa: GPA(0), byteCount: CodeRunner.ramByteCount)
        #expect(machine.gpaToHVA(GPA(0)) == nil)
        let after = try machine.takeSnapshot()

        try machine.restore(before)
        #expect(try guest.runner.read(0x3000, 3) == [0, 0, 0])
        #expect(machine.gpaToHVA(GPA(0x3000))?.offset == 0x3000)
        try guest.runner.run(20)
        #expect(guest.runner[.rcx] == 2)

        try machine.restore(after)
        #expect(try guest.runner.read(0x3000, 3) == [1, 2, 3])
        #expect(machine.gpaToHVA(GPA(0)) == nil)
        try machine.gpaMap(
            guest.runner.ram, offset: 0, gpa: GPA(0), byteCount: CodeRunner.ramByteCount,
            protection: [.read, .write, .execute])
        #expect(try guest.runner.run(20).exit.reason == .halted)
    }

    @Test func `only pages that are written are copied, once for each snapshot`() throws {
        let memory = GuestMemory()
        _ = try memory.createObject(byteCount: 600 * pageBytes)
        let backing = try #require(memory.objects[0])
        var copies = 0
        let pages = PreservedPages(pageCount: 600)
        func write(_ page: Int) {
            pages.preserve(page) {
                copies += 1
                return backing.bytes(ofPage: page)
            }
        }
        write(3)
        let first = pages.share()
        for page in [3, 3, 299, 3, 599] { write(page) }
        // Before the first snapshot there was nobody to keep a page for but the object's beginning.
        #expect(copies == 1 + 3)
        let second = pages.share()
        write(3)
        #expect(copies == 5)
        var replaced: [Int] = []
        func restore(_ wanted: [PreservedPages.Chunk]) {
            replaced = []
            pages.restore(wanted) { _ in
                copies += 1
                return []
            } replace: { page, _ in
                replaced.append(page)
            }
        }
        restore(second)
        #expect(replaced == [3] && copies == 5)
        restore(first)
        #expect(replaced == [3, 299, 599] && copies == 7)
        write(3)
        #expect(copies == 7)
    }

    @Test func `misuse is told, and leaves the machine alone`() throws {
        let guest = try SnapshotGuest()
        let other = try SnapshotGuest()
        let snapshot = try guest.machine.takeSnapshot()
        try other.runner.run(50)
        let seen = try other.seen()
        #expect(throws: SnapshotError.otherMachine) { try other.machine.restore(snapshot) }
        #expect(try other.seen() == seen)

        _ = try guest.machine.hvaMap(byteCount: pageBytes)
        #expect(throws: SnapshotError.otherParts) { try guest.machine.restore(snapshot) }
        let again = try guest.machine.takeSnapshot()
        _ = try guest.machine.createVCPU(id: 1)
        #expect(throws: SnapshotError.otherParts) { try guest.machine.restore(again) }

        _ = unsafe guest.runner.ram.clientAddress
        #expect(throws: SnapshotError.clientHasAddress(object: 0)) { try guest.machine.takeSnapshot() }
        _ = other.machine.runVCPUsConcurrently()
        #expect(throws: SnapshotError.runsConcurrently) { try other.machine.takeSnapshot() }
    }
}
