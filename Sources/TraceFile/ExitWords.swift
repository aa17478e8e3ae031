// An exit reason as fixed words, which is how journals hold it: Docs/trace-format.md, "Exit descriptors", has the
// numbers and the packing of the I/O attributes.

import NVMM

/// Number of the reason and four words of payload; unused words are 0.
struct ExitWords: Hashable {
    /// Place in ``ExitReason/names``.
    var number: UInt8 = 0
    var a: UInt64 = 0
    var b: UInt64 = 0
    var c: UInt64 = 0
    var d: UInt64 = 0

    static let none: UInt8 = 0
    static let memory: UInt8 = 1
    static let io: UInt8 = 2
    static let readMSR: UInt8 = 8
    static let writeMSR: UInt8 = 9
    static let monitor: UInt8 = 10
    static let mwait: UInt8 = 11
    static let cpuid: UInt8 = 12
    static let invalid: UInt8 = 14
    static let count: UInt8 = 15

    /// Words by reason: memory: access, gpa, low, high (instruction count in the top byte of `high`, whose fifteenth
    /// byte does not exist). io: attributes, -, -, npc. MSR: msr, value, -, npc. Others: -, -, -, npc or hardware code.
    init(_ reason: ExitReason) {
        switch reason {
        case .none: number = Self.none
        case .memory(let exit):
            number = Self.memory
            a = exit.access.rawValue
            b = exit.gpa.rawValue
            c = exit.instruction.low
            d = exit.instruction.high | UInt64(exit.instruction.count) << 56
        case .io(let exit):
            number = Self.io
            let segment = exit.segment.map { UInt64($0.rawValue) + 1 } ?? 0
            a = UInt64(exit.port) | UInt64(exit.addressBytes) << 16 | UInt64(exit.operandBytes) << 24
            a |= segment << 32 | (exit.isInput ? 1 : 0) << 40 | (exit.isRepeated ? 2 : 0) << 40
            a |= (exit.isString ? 4 : 0) << 40
            d = exit.npc
        case .shutdown: number = 3
        case .interruptReady: number = 4
        case .nmiReady: number = 5
        case .halted: number = 6
        case .tprChanged: number = 7
        case .readMSR(let exit):
            number = Self.readMSR
            a = UInt64(exit.msr)
            d = exit.npc
        case .writeMSR(let exit):
            number = Self.writeMSR
            a = UInt64(exit.msr)
            b = exit.value
            d = exit.npc
        case .monitor(let npc):
            number = Self.monitor
            d = npc
        case .mwait(let npc):
            number = Self.mwait
            d = npc
        case .cpuid(let npc):
            number = Self.cpuid
            d = npc
        case .stopped: number = 13
        case .invalid(let code):
            number = Self.invalid
            d = code
        }
    }

    init() {}

    /// nil where the words are none that `init(_:)` makes.
    var reason: ExitReason? {
        switch number {
        case Self.none: return ExitReason.none
        case Self.memory:
            return .memory(
                MemoryExit(
                    access: Protection(rawValue: a), gpa: GPA(b),
                    instruction: InstructionBytes(
                        count: UInt8(truncatingIfNeeded: d >> 56), low: c, high: d & 0xFF_FFFF_FFFF_FFFF)))
        case Self.io:
            let segmentNumber = Int(a >> 32 & 0xFF)
            var segment: SegmentRegister?
            if segmentNumber > 0 {
                segment = SegmentRegister(rawValue: segmentNumber - 1)
                if segment == nil { return nil }
            }
            return .io(
                IOExit(
                    isInput: a >> 40 & 1 != 0, port: UInt16(truncatingIfNeeded: a), segment: segment,
                    addressBytes: UInt8(truncatingIfNeeded: a >> 16),
                    operandBytes: UInt8(truncatingIfNeeded: a >> 24), isRepeated: a >> 40 & 2 != 0,
                    isString: a >> 40 & 4 != 0, npc: d))
        case 3: return .shutdown
        case 4: return .interruptReady
        case 5: return .nmiReady
        case 6: return .halted
        case 7: return .tprChanged
        case Self.readMSR: return .readMSR(MSRReadExit(msr: UInt32(truncatingIfNeeded: a), npc: d))
        case Self.writeMSR: return .writeMSR(MSRWriteExit(msr: UInt32(truncatingIfNeeded: a), value: b, npc: d))
        case Self.monitor: return .monitor(npc: d)
        case Self.mwait: return .mwait(npc: d)
        case Self.cpuid: return .cpuid(npc: d)
        case 13: return .stopped
        case Self.invalid: return .invalid(hardwareCode: d)
        default: return nil
        }
    }

    /// Whether `d` is a RIP, which descriptors hold as a distance from the VCPU's own.
    var carriesNPC: Bool { number == Self.io || (Self.readMSR...Self.cpuid).contains(number) }
    var carriesGPA: Bool { number == Self.memory }
    var carriesValue: Bool { number == Self.writeMSR }
}
