import NVMM
import SoftBackend
import Testing

/// A device that answers every load with ones.
private final class Ones: EmulatedMemory {
    private(set) var stores: [(gpa: GPA, value: UInt64, byteCount: Int)] = []
    func load(_ gpa: GPA, byteCount: Int) -> UInt64 { .max }
    func loadPlain(_ gpa: GPA, byteCount: Int) -> UInt64? { nil }
    func store(_ gpa: GPA, _ value: UInt64, byteCount: Int) { stores.append((gpa, value, byteCount)) }
}

@Suite struct InstructionEmulatorTests {
    @Test func `bits of a processor that the interpreter does not know stay, and are no change`() throws {
        var state = VCPUState.reset
        state[.cr0] = 0x11
        state[.cr4] = 1 << 18 | 1 << 17 | 1 << 16  // OSXSAVE, PCIDE, FSGSBASE
        state[.xcr0] = 7
        state[.efer] = 1 << 14  // FFXSR
        state[.tsc] = 0x1234_5678
        state[.rip] = 0x10
        state[.rbx] = 0x100
        for register in [SegmentRegister.cs, .ds, .es, .ss] { state[register].base = 0 }
        let before = state
        let changed = try InstructionEmulator().execute(
            InstructionBytes([0x8A, 0x07]), on: &state, in: Ones())  // mov al, [bx]
        #expect(changed == .gprs)
        #expect(state[.rax] == 0xFF)
        #expect(state[.rip] == 0x12)
        (state[.rax], state[.rip]) = (before[.rax], before[.rip])
        #expect(state == before)
    }
}
