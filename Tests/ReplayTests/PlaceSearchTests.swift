// Where a run ended that nobody counted: found by registers, though one instruction of a loop leaves them as they were.

import Foundation
import NVMM
import Replay
import SoftBackend
import SystemPackage
import TestSupport
import Testing
import TraceFile
import Tracer

@Suite struct PlaceSearchTests {
    /// Records `code` in runs of so many instructions, takes the counts away, and replays.
    private func replay(_ code: [UInt8], runsOf count: UInt64, rcx: UInt64) throws -> ReplayReport {
        try replayWithoutCounts { guest in
            try guest.write([UInt8](repeating: 0x5A, count: 0x200), at: GuestLayout.data)
            guest.change { state in
                state[.rax] = GuestLayout.data
                state[.rdi] = GuestLayout.data
                state[.rdx] = 0x200
                state[.rcx] = rcx
            }
            try guest.write(code, at: GuestLayout.code)
            while try guest.run(budget: count).reason == .none {}
        }
    }

    @Test(arguments: [1, 2, 3, 4, 6, 7, 11] as [UInt64])
    func `no iteration of a loop that stores is taken for another`(count: UInt64) throws {
        // test edx, edx; jz +7; dec edx; mov byte [eax+edx], 0; jmp -11; hlt
        let code: [UInt8] = [0x85, 0xD2, 0x74, 0x07, 0x4A, 0xC6, 0x04, 0x10, 0x00, 0xEB, 0xF5, 0xF4]
        let report = try replay(code, runsOf: count, rcx: 0)
        #expect(report.isClean)
        #expect(report.totals.keyframesEqual > 0)
    }

    @Test(arguments: [1, 3, 64] as [UInt64])
    func `the iterations of a repeated store are all done`(count: UInt64) throws {
        let report = try replay([0xF3, 0xAA, 0xF4], runsOf: count, rcx: 0x1F0)  // rep stosb; hlt
        #expect(report.isClean)
        #expect(report.totals.keyframesEqual > 0)
    }

    /// Recorded of a client of KVM whose guest compares a device's memory with its own (`kvm_guest.asm`): the run after
    /// the last load ended before KVM went on from the instruction.
    @Test func `a repeated instruction that a device's answer ended is looked at once more`() throws {
        let path = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Golden/last-look.vmtrace").path
        let report = try Replayer(try TraceReader(path: FilePath(path)), on: SoftBackend()).run()
        #expect(report.isClean)
        #expect(report.totals.keyframesEqual == 1)
    }
}
