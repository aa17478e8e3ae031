// Every opcode with every register field and a memory operand, assisted, against the same on memory: what is left out
// has to be named here.

import Assists
import NVMM
import SoftBackend
import TestSupport
import Testing

/// One opcode, its prefixes before and the ModRM byte and constants behind it.
private struct Encoding {
    var prefixes: [UInt8]
    var opcode: [UInt8]
    var field: UInt8

    func bytes(_ mode: GuestMode) -> [UInt8] {
        // [rBX], or [BX] with 16-bit addresses.
        let operand: UInt8 = mode == .real ? 7 : 3
        let rest: [UInt8] = [field << 3 | operand, 0x11, 0x02, 0x13, 0x04, 0x15, 0x06, 0x17, 0x08]
        return prefixes + opcode + rest
    }
}

@Suite struct OpcodeWalkTests {
    /// Instructions that may exit for a memory operand, and that the assist leaves alone: state of the FPU and SSE
    /// units, which it is not given.
    private static let leftOut: Set<String> = [
        "fxsave", "fxsave64", "fxrstor", "fxrstor64", "ldmxcsr", "stmxcsr", "fldcw", "fnstcw", "fnstsw",
    ]

    private enum End: Equatable {
        case done
        /// Exceptions end in a shutdown on the guest itself, which has no handlers, and in an error of the assist.
        case exception
        case refused(String)
    }

    /// None, the other operand size, REX.W, LOCK, REP.
    private static let prefixes: [[UInt8]] = [[], [0x66], [0x48], [0xF0], [0xF3]]

    @Test(arguments: GuestMode.allCases, prefixes)
    func `every opcode with a memory operand does what it does on memory, or is named`(
        mode: GuestMode, prefixes: [UInt8]
    ) throws {
        guard mode == .long64 || prefixes != [0x48] else { return }
        var random = SeededGenerator(seed: 0xB17E)
        let native = try AssistedGuest(mode, code: [], dataIsMemory: true)
        let assisted = try AssistedGuest(mode, code: [])
        let clean = native.vcpu.saveState()
        var seen = 0
        var refused: Set<String> = []
        let opcodes: [[UInt8]] = (0...255 as ClosedRange<UInt8>).flatMap { [[$0], [0x0F, $0]] as [[UInt8]] }
        for opcode in opcodes {
            for field in 0..<8 as Range<UInt8> {
                let encoding = Encoding(prefixes: prefixes, opcode: opcode, field: field)
                let data = (0..<64).map { _ in UInt8.random(in: 0...255, using: &random) }
                var state = clean
                for register in [GPR.rax, .rcx, .rdx, .rbp] { state[register] = random.next() & 0xFF }
                let start = mode == .real ? 0 : AssistedGuest.data
                (state[.rbx], state[.rsi], state[.rdi]) = (start + 16, start + 20, start + 40)
                state[.rsp] = AssistedGuest.stack
                for guest in [native, assisted] { try guest.reset(state, code: encoding.bytes(mode), data: data) }
                let (expected, _) = try end(native)
                let (actual, exits) = try end(assisted)
                // Not about this operand, or an exception before its access.
                guard exits > 0 || actual != expected else { continue }
                seen += 1
                if case .refused(let name) = actual {
                    refused.insert(name)
                    continue
                }
                let code = encoding.bytes(mode).map { String($0, radix: 16) }.joined(separator: " ")
                #expect(actual == expected, "\(code)")
                guard actual == .done, expected == .done else { continue }
                var (left, right) = (native.vcpu.saveState(), assisted.vcpu.saveState())
                (left[.tsc], right[.tsc]) = (0, 0)
                #expect(right == left, "\(code)")
                #expect(assisted.dataBytes == native.dataBytes, "\(code)")
            }
        }
        #expect(seen > 100)
        #expect(refused.isSubset(of: Self.leftOut), "\(refused.subtracting(Self.leftOut))")
    }

    /// Executes one instruction, with all the iterations that it has.
    private func end(_ guest: AssistedGuest) throws -> (End, exits: Int) {
        var exits = 0
        do {
            for _ in 0..<300 {
                let before = guest.vcpu.saveState()[.rip]
                exits += try guest.step(endsAtShutdown: true)
                if guest.vcpu.saveState()[.rip] != before { return (.done, exits) }
            }
            return (.done, exits)
        } catch let error as AssistError {
            switch error {
            case .unsupported(_, let name, _): return (.refused(name), exits + 1)
            case .pageFault, .segmentViolation, .exception: return (.exception, exits + 1)
            default: throw error
            }
        } catch is AssistedGuest.ShutDown {
            return (.exception, exits)
        }
    }
}
