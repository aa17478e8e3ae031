// Guests that read the time-stamp counter, recorded where the time was another one.

import Foundation
import NVMM
import Replay
import SoftBackend
import SystemPackage
import TestSupport
import Testing
import TraceFile
import Tracer

@Suite struct TimestampTests {
    /// Records `code` with other times than a replay gives, in runs of so many instructions, and replays it without
    /// counts.
    private func replay(
        _ code: [UInt8], runsOf count: UInt64 = 10_000, change: (inout Step) -> Void = { _ in }
    ) throws -> ReplayReport {
        try replayWithoutCounts(change: change) { guest in
            guest.change { $0[.rsi] = GuestLayout.data }
            guest.vcpu.timestampDistortion = 0xC10C
            try guest.write(code, at: GuestLayout.code)
            while true {
                let exit = try guest.run(budget: count)
                guard exit.reason != .halted else { break }
                guard case .io(let port) = exit.reason else { continue }
                guest.change { $0[.rip] = port.npc }
            }
        }
    }

    private let rdtsc: [UInt8] = [0x0F, 0x31]
    private let out: [UInt8] = [0xE6, 0x80]  // out 0x80, al
    private let hlt: [UInt8] = [0xF4]

    @Test func `registers with times are explained, and their RDTSC is named`() throws {
        let report = try replay([0x31, 0xDB] + rdtsc + out + rdtsc + hlt)  // xor ebx, ebx
        #expect(report.isClean)
        #expect(report.totals.explained == 2)
        #expect(report.totals.identical == 0)
        #expect(
            report.explainedInstructions.map(\.place.rip) == [GuestLayout.code + 2, GuestLayout.code + 6])
        #expect(report.explainedInstructions.allSatisfy { $0.place.text == "rdtsc" })
    }

    @Test func `what does not depend on them is a divergence as ever`() throws {
        let report = try replay(rdtsc + out + rdtsc + hlt) { step in
            if step.exit.reason == .halted { step.state[.rbx] ^= 1 }
        }
        #expect(report.totals.divergent == 1)
        #expect(report.divergence?.step == 1)
        #expect(report.divergence?.differingFields.map(\.name).contains("rbx") == true)
    }

    @Test func `memory that holds times is explained byte by byte`() throws {
        // mov [esi], eax; mov [esi + 8], ebx; mov eax, [esi]; xor eax, eax; xor edx, edx
        let store: [UInt8] = [0x89, 0x06, 0x89, 0x5E, 0x08, 0x31, 0xC0, 0x31, 0xD2]
        let report = try replay(rdtsc + store + out + hlt)
        #expect(report.isClean)
        #expect(report.totals.keyframesEqual > 0)
        #expect((1...4).contains(report.totals.timedBytes))
    }

    @Test func `an outcome of two is explained, whichever came`() throws {
        // test al, bit; setz bl; xor eax, eax; xor edx, edx: of every bit, one by one
        for bit: UInt8 in [1, 2, 4, 8, 16, 32, 64, 128] {
            let report = try replay(rdtsc + [0xA8, bit, 0x0F, 0x94, 0xC3, 0x31, 0xC0, 0x31, 0xD2] + out + hlt)
            #expect(report.isClean, "bit \(bit)")
        }
    }

    @Test(arguments: [3, 4, 5, 7, 50] as [UInt64])
    func `places in a loop that waits are found`(count: UInt64) throws {
        // rdtsc; mov ebx, eax; L: inc ecx; rdtsc; sub eax, ebx; cmp eax, 0x40000000; jb L
        let wait: [UInt8] = [0x89, 0xC3, 0x0F, 0x31, 0x29, 0xD8, 0x3D, 0x00, 0x00, 0x00, 0x40, 0x72, 0xF5]
        let report = try replay(rdtsc + wait + out + hlt, runsOf: count)
        #expect(report.isClean)
    }

    @Test func `a way that the time decided is not called a divergence`() throws {
        // test al, 0x3F; jz +2; out 0x81, al: with times that the replay does not have
        let report = try replay(
            [0xB9, 0x40, 0, 0, 0] + rdtsc + [0xA8, 1, 0x74, 2, 0xE6, 0x81, 0x49, 0x75, 0xF5] + hlt)
        #expect(report.totals.divergent == 0)
        #expect(report.totals.unverifiable > 0)
        #expect(report.reasons.last?.text.contains("time-stamp counter") == true)
    }
}
