// Seeded random events of every kind, in an order that a trace may have, in the form in which a reader gives them back.

import NVMM
import TestSupport
import TraceFile

/// A machine that does anything that the event model can express.
struct EventGenerator {
    private var random: SeededGenerator
    private var states: [VCPUState]
    private var clock: UInt64 = 0
    private(set) var stepCount: UInt64 = 0
    let recordsTime: Bool

    init(seed: UInt64, vcpuCount: Int, recordsTime: Bool = false) {
        random = SeededGenerator(seed: seed)
        states = Array(repeating: .reset, count: vcpuCount)
        self.recordsTime = recordsTime
    }

    mutating func number(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &random) }
    mutating func chance(_ percent: Int) -> Bool { number(100) < percent }
    mutating func word() -> UInt64 {
        switch number(4) {
        case 0: UInt64(number(8))
        case 1: UInt64(number(1 << 16))
        case 2: ~UInt64(number(1 << 12))
        default: UInt64.random(in: 0...UInt64.max, using: &random)
        }
    }

    mutating func parts() -> StateFlags {
        if chance(70) { return .all }
        return StateFlags(rawValue: UInt64(number(128)))
    }

    mutating func change(_ state: inout VCPUState, words: Int) {
        for _ in 0..<number(words + 1) {
            let index = chance(80) ? 20 + number(18) : number(VCPUState.wordCount)
            let value = word()
            state.withMutableWords { $0[index] = value }
        }
    }

    /// `state` with the parts outside `parts` as an empty state has them, which is what a reader gives.
    static func only(_ parts: StateFlags, of state: VCPUState) -> VCPUState {
        var result = VCPUState()
        result.copy(parts, from: state)
        return result
    }

    mutating func exit(rip: UInt64) -> ExitReason {
        let npc = chance(90) ? rip &+ UInt64(number(15)) : word()
        switch number(16) {
        case 0: return .none
        case 1:
            let count = number(16)
            return .memory(
                MemoryExit(
                    access: [.read, .write, .execute][number(3)], gpa: GPA(word()),
                    instruction: InstructionBytes((0..<count).map { _ in UInt8.random(in: 0...255, using: &random) })))
        case 2: return .shutdown
        case 3: return .interruptReady
        case 4: return .nmiReady
        case 5: return .halted
        case 6: return .tprChanged
        case 7: return .readMSR(MSRReadExit(msr: UInt32(truncatingIfNeeded: word()), npc: npc))
        case 8: return .writeMSR(MSRWriteExit(msr: UInt32(truncatingIfNeeded: word()), value: word(), npc: npc))
        case 9: return .monitor(npc: npc)
        case 10: return .mwait(npc: npc)
        case 11: return .cpuid(npc: npc)
        case 12: return .stopped
        case 13: return .invalid(hardwareCode: word())
        default:
            return .io(
                IOExit(
                    isInput: chance(50), port: UInt16(truncatingIfNeeded: word()),
                    segment: chance(50) ? nil : SegmentRegister.allCases[number(10)],
                    addressBytes: [2, 4, 8][number(3)], operandBytes: [1, 2, 4][number(3)],
                    isRepeated: chance(20), isString: chance(20), npc: npc))
        }
    }

    mutating func step() -> TraceEvent {
        let vcpu = number(states.count)
        var state = states[vcpu]
        let commit: StateFlags = chance(40) ? parts() : []
        if !commit.isEmpty {
            var committed = state
            change(&committed, words: 4)
            state.copy(commit, from: committed)
        }
        let committed = Self.only(commit, of: state)
        change(&state, words: 10)
        let coverage = parts()
        let covered = Self.only(coverage, of: state)
        states[vcpu].copy(coverage, from: state)
        let retired: UInt64? = chance(90) ? UInt64(number(5000)) : nil
        clock &+= retired ?? word()
        if chance(50) { states[vcpu][.tsc] &+= retired ?? 0 }
        let reason = exit(rip: covered[.rip])
        let exitState =
            chance(80)
            ? ExitState(rflags: covered[.rflags], cr8: covered[.cr8], interrupt: covered.interrupt)
            : ExitState(rflags: word(), cr8: word(), interrupt: InterruptState(rawValue: word()))
        stepCount += 1
        return .step(
            Step(
                vcpu: UInt32(vcpu), kind: chance(5) ? .returnedEarly : .entered, budget: chance(60) ? word() : nil,
                commit: commit, committed: committed,
                event: chance(15)
                    ? VCPUEvent(
                        kind: .init(rawValue: UInt32(number(3))), vector: UInt8(number(256)), errorCode: word()) : nil,
                failed: chance(3), exit: VCPUExit(reason: reason, state: exitState),
                cached: StateFlags(rawValue: UInt64(number(128))), retired: retired, clock: clock, coverage: coverage,
                state: covered,
                time: recordsTime ? StepTime(guestNanoseconds: word(), vmmNanoseconds: word()) : nil))
    }

    mutating func other() -> TraceEvent {
        switch number(12) {
        case 0: return .machine(.createVCPU(id: UInt32(number(64))))
        case 1: return .machine(.destroyVCPU(id: UInt32(number(64))))
        case 2:
            let registers = CPUIDRegisters(eax: 1, ebx: UInt32(number(1 << 20)), ecx: 0, edx: .max)
            let configurations: [VCPUConfiguration] = [
                .cpuid(leaf: 7, .mask(set: registers, delete: CPUIDRegisters())), .cpuid(leaf: 0x8000_0001, .exit),
                .cpuid(leaf: 1, .remove), .tpr(exitOnChange: chance(50)),
            ]
            return .machine(.configureVCPU(id: 0, configurations[number(4)]))
        case 3: return .machine(.hvaMap(object: UInt32(number(9)), byteCount: number(1 << 20) * 4096))
        case 4: return .machine(.hvaUnmap(object: UInt32(number(9))))
        case 5:
            return .machine(
                .gpaMap(
                    GPARange(
                        object: 1, offset: number(100) * 4096, gpa: GPA(word()), byteCount: 4096,
                        protection: Protection(rawValue: UInt64(number(8))))))
        case 6: return .machine(.gpaUnmap(gpa: GPA(word()), byteCount: 8192))
        case 7:
            let ticks = UInt64(number(100_000))
            clock &+= ticks
            return .machine(.advanceClock(ticks: ticks))
        case 8:
            return .loss(Loss(eventCount: word(), reason: "ring full, \(number(9)) Mal übergelaufen"))
        case 9:
            let count = chance(90) ? number(64) : number(20000)
            return .memoryWrite(
                MemoryWrite(
                    object: UInt32(number(4)), offset: number(1 << 30),
                    bytes: (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7) }, isRawStore: chance(20)))
        default:
            return .call(
                CallRecord(
                    vcpu: UInt32(number(states.count + 1)), kind: CallRecord.Kind.allCases[number(4)],
                    flags: StateFlags(rawValue: word()), cost: chance(50) ? .commPage : .systemCall))
        }
    }

    /// `count` events: steps, with other events between some of them.
    mutating func events(_ count: Int, stepPercent: Int = 60) -> [TraceEvent] {
        var result: [TraceEvent] = []
        for _ in 0..<count { result.append(chance(stepPercent) ? step() : other()) }
        return result
    }

    mutating func page(kinds: Int) -> [UInt8] {
        let kind = UInt8(number(kinds))
        return (0..<4096).map { UInt8(truncatingIfNeeded: $0 / 64) ^ kind }
    }

    mutating func bytes(_ bound: Int) -> [UInt8] { (0..<number(bound)).map { UInt8(truncatingIfNeeded: $0) } }

    /// A keyframe of the machine as it stands; stores its pages.
    mutating func keyframe(
        _ writer: TraceWriter, pageCount: Int = 64, kinds: Int = 200
    ) throws(TraceWriteError) -> TraceEvent {
        var pages: [Keyframe.PageReference] = []
        for page in 0..<pageCount where chance(40) {
            let content = self.page(kinds: kinds)
            pages.append(Keyframe.PageReference(page: page, content: try unsafe writer.storePage(content.span.bytes)))
        }
        var images: [Keyframe.VCPUImage] = []
        for (id, state) in states.enumerated() {
            var pageState = state
            change(&pageState, words: 3)
            images.append(
                Keyframe.VCPUImage(
                    id: UInt32(id), state: state, privateState: bytes(50), cached: parts(), commit: parts(),
                    pageState: pageState, eventCommit: chance(50),
                    event: VCPUEvent(kind: .interrupt, vector: 8, errorCode: word()), stop: chance(10)))
        }
        return .keyframe(
            Keyframe(
                stepCount: stepCount, clock: clock, machinePrivateState: bytes(100), vcpus: images,
                objects: [
                    Keyframe.ObjectImage(object: 0, byteCount: 64 * 4096, pages: pages),
                    Keyframe.ObjectImage(object: 3, byteCount: 4096, pages: []),
                ],
                gpaRanges: [GPARange(object: 0, offset: 0, gpa: GPA(0), byteCount: 64 * 4096, protection: .all)]))
    }

    static let header = TraceHeader(
        tool: "TraceFileTests 1", backendName: "synthetic", capability: Capability(countsInstructions: true),
        processorModel: "none-v1",
        cpuidTable: [
            CPUIDEntry(leaf: 0, registers: CPUIDRegisters(eax: 0xD, ebx: 1, ecx: 2, edx: 3)),
            CPUIDEntry(leaf: 7, subleaf: 1, registers: CPUIDRegisters(ebx: .max)),
        ],
        level: .replay, hidden: ["kvmclock"], parameters: [.init(key: "keyframe-every", value: "500")])
}
