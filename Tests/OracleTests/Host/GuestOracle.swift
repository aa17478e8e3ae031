// A backend under test, running the host oracle's cases through the NVMM interface alone.

import CHostOracle
import NVMM

@testable import SoftBackend

/// What stops a case in the guest other than its own end.
enum GuestOracleError: Error, Equatable {
    /// The run ended with an exit that no case can cause.
    case unexpectedExit(ExitReason, rip: UInt64)
}

/// A machine of a backend, laid out as ``HostCaseLayout`` says.
final class GuestOracle {
    let machine: any Machine
    let vcpu: any VCPU
    private let ram: MemoryObject
    private let system: VCPUState
    private var segments: [UInt16: Segment] = [:]
    private let pristine: [UInt8]

    init(_ backend: any Backend, pristine: [UInt8] = HostOracle.pristine) throws {
        self.pristine = pristine
        machine = try backend.createMachine()
        ram = try machine.hvaMap(byteCount: HostCaseLayout.ramBytes)
        try machine.gpaMap(
            ram, offset: 0, gpa: GPA(0), byteCount: ram.byteCount, protection: [.read, .write, .execute])
        let bytes = HostCaseLayout.ram(pristine: pristine)
        try machine.write(ram, at: 0, bytes: bytes)
        vcpu = try machine.createVCPU(id: 0)
        system = HostCaseLayout.state
        _ = machine.takeDirtyPages(of: ram)
    }

    /// Runs the cases one by one; the i-th stands in slot `firstSlot` + i, as on the host.
    ///
    /// - Parameter budget: of instructions, where it is not what a case asks for.
    func run(_ cases: ArraySlice<OracleCase>, firstSlot: Int = 0, budget: UInt64? = nil) throws -> [OracleOutcome] {
        var code = [UInt8](repeating: 0xF4, count: Window.byteCount)
        for (slot, test) in cases.enumerated() {
            let start = (firstSlot + slot) * Window.slotBytes + Window.slotEntry
            code.replaceSubrange(start..<start + test.code.count, with: test.code)
        }
        try machine.write(ram, at: HostCaseLayout.code, bytes: code)
        return try cases.map { try run($0, budget: budget) }
    }

    private func run(_ test: OracleCase, budget: UInt64?) throws -> OracleOutcome {
        for patch in test.patches where !patch.bytes.isEmpty {
            try machine.write(ram, at: HostCaseLayout.data + Int(patch.offset), bytes: patch.bytes)
        }
        var state = system
        for index in 0..<16 { state.gprs[index] = test.state.gprs[index] }
        state[.rip] = test.state.rip
        // On the host, interrupts are on in user mode.
        state[.rflags] = test.state.rflags | 0x202
        state[.cs] = segment(test.state.cs)
        state[.ss] = segment(test.state.ss)
        state[.ds] = segment(test.state.ds)
        state[.es] = segment(test.state.es)
        state.fpu = test.state.fpu
        vcpu.commPage.state = state
        vcpu.setState(.all)
        let processor = vcpu as? SoftVCPU
        if let processor {
            for index in 0..<16 { processor[upperHalf: index] = Vector128(test.state.ymm[index]) }
        }
        // A single instruction retires once or faults, and then the handler's HLT retires; what repeats runs on
        // until it meets the HLT behind it. More than that is a loop that the case should not hold.
        let result = try vcpu.run(budget: budget ?? (test.runsToHalt ? 4096 : 1))
        try vcpu.getState(.all)
        var outcome = OracleOutcome(vcpu.commPage.state)
        if let processor {
            for index in 0..<16 { outcome.state.ymm[index] = processor[upperHalf: index].bytes }
        }
        outcome.undefinedFlags = vcpu.undefinedFlags
        outcome.undefinedFlagsRIP = vcpu.undefinedFlagsRIP
        switch result.exit.reason {
        case .none: break
        case .halted: try takeFrame(into: &outcome)
        default: throw GuestOracleError.unexpectedExit(result.exit.reason, rip: outcome.state.rip)
        }
        outcome.normalize(after: test)
        try restoreMemory(test, &outcome)
        return outcome
    }

    private func segment(_ selector: UInt16) -> Segment {
        if let known = segments[selector] { return known }
        let loaded = HostCaseLayout.segment(selector)
        segments[selector] = loaded
        return loaded
    }

    /// The vector from where the handler's HLT stands, the rest from the frame that delivery pushed
    /// (SDM vol. 3, 6.14.2): error code where there is one, RIP, CS, RFLAGS, RSP, SS.
    private func takeFrame(into outcome: inout OracleOutcome) throws {
        let offset =
            Int(truncatingIfNeeded: outcome.state.rip &- HostCaseLayout.kernelBase) - 1 - HostCaseLayout.handlers
        let vector = offset / HostCaseLayout.handlerStride
        guard offset >= 0, vector < 256, offset % HostCaseLayout.handlerStride == 0 else {
            throw GuestOracleError.unexpectedExit(.halted, rip: outcome.state.rip)
        }
        let hasErrorCode = [8, 10, 11, 12, 13, 14, 17].contains(vector)
        let bytes = hasErrorCode ? 48 : 40
        let frame = ram.withBytes(HostCaseLayout.stackTop - bytes..<HostCaseLayout.stackTop) { (span) -> [UInt64] in
            (0..<bytes / 8).map { span.load(at: $0) }
        }
        outcome.vector = UInt32(vector)
        outcome.errorCode = hasErrorCode ? UInt32(truncatingIfNeeded: frame[0]) : 0
        let pushed = frame.suffix(5)
        let first = pushed.startIndex
        outcome.state.rip = pushed[first]
        outcome.state.cs = UInt16(truncatingIfNeeded: pushed[first + 1])
        outcome.state.rflags = pushed[first + 2]
        outcome.state.gprs[4] = pushed[first + 3]
        outcome.state.ss = UInt16(truncatingIfNeeded: pushed[first + 4])
    }

    /// Lists what differs in the data window and puts it back.
    private func restoreMemory(_ test: OracleCase, _ outcome: inout OracleOutcome) throws {
        var expected: [Int: [UInt8]] = [:]
        for page in machine.takeDirtyPages(of: ram) {
            let start = page * pageBytes - HostCaseLayout.data
            guard start >= 0, start < Window.byteCount else { continue }
            var before = Array(pristine[start..<start + pageBytes])
            for patch in test.patches {
                for (index, byte) in patch.bytes.enumerated() {
                    let place = Int(patch.offset) + index - start
                    if place >= 0, place < pageBytes { before[place] = byte }
                }
            }
            expected[start] = before
        }
        for (start, before) in expected.sorted(by: { $0.key < $1.key }) {
            let range = HostCaseLayout.data + start..<HostCaseLayout.data + start + pageBytes
            ram.withBytes(range) { span in
                for index in 0..<pageBytes {
                    let value: UInt8 = span.load(at: index)
                    guard value != before[index] else { continue }
                    outcome.changeCount += 1
                    if outcome.changes.count < Int(HOST_CHANGES_MAX) {
                        outcome.changes.append(OracleChange(offset: UInt16(start + index), value: value))
                    }
                }
            }
            try machine.write(ram, at: range.lowerBound, bytes: pristine[start..<start + pageBytes])
        }
        for patch in test.patches where !patch.bytes.isEmpty {
            let start = Int(patch.offset)
            try machine.write(
                ram, at: HostCaseLayout.data + start, bytes: pristine[start..<start + patch.bytes.count])
        }
    }
}

extension OracleOutcome {
    init(_ state: VCPUState) {
        self.init()
        for index in 0..<16 { self.state.gprs[index] = state.gprs[index] }
        self.state.rip = state[.rip]
        self.state.rflags = state[.rflags]
        self.state.cs = state[.cs].selector
        self.state.ss = state[.ss].selector
        self.state.ds = state[.ds].selector
        self.state.es = state[.es].selector
        self.state.fpu = state.fpu
        cr2 = state[.cr2]
    }
}
