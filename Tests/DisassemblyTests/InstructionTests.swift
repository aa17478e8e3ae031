import Disassembly
import NVMM
import Testing

@Suite struct InstructionTests {
    @Test func `the same bytes read as the code size says`() throws {
        let bytes: [UInt8] = [0xB8, 0x34, 0x12, 0x00, 0x00]  // mov eax, 0x1234, or mov ax, 0x1234
        let short = try #require(Instruction(decoding: bytes, at: 0, size: .bits16))
        #expect(short.text == "mov ax, 0x1234")
        #expect(short.byteCount == 3)
        let long = try #require(Instruction(decoding: bytes, at: 0, size: .bits32))
        #expect(long.text == "mov eax, 0x1234")
        #expect(long.byteCount == 5)
        let increment = try #require(Instruction(decoding: [0x40, 0x90], at: 0, size: .bits32))
        #expect(increment.text == "inc eax")
        #expect(try #require(Instruction(decoding: [0x48, 0x01, 0xC8], at: 0, size: .bits64)).text == "add rax, rcx")
    }

    @Test func `forms name the kinds of operands`() {
        func form(_ bytes: [UInt8], _ size: CodeSize = .bits64) -> String? {
            Instruction(decoding: bytes, at: 0, size: size)?.form
        }
        #expect(form([0xC1, 0xE1, 0x04]) == "shl r32, imm8")
        #expect(form([0x48, 0x89, 0x03]) == "mov m64, r64")
        #expect(form([0x8E, 0xD8], .bits16) == "mov sreg, r16")
        #expect(form([0x0F, 0x22, 0xD8]) == "mov cr, r64")
        #expect(form([0x75, 0xE7]) == "jnz rel8")
        #expect(form([0x0F, 0x58, 0x01]) == "addps xmm, m128")
        #expect(form([0xF4]) == "hlt")
    }

    @Test func `branch targets are absolute`() throws {
        let jump = try #require(Instruction(decoding: [0x75, 0xE7], at: 0x101C, size: .bits32))
        #expect(jump.mnemonic == "jnz")
        #expect(jump.text == "jnz 0x00001005")
    }

    @Test func `bytes that are no whole instruction give none`() {
        #expect(Instruction(decoding: [], at: 0, size: .bits64) == nil)
        #expect(Instruction(decoding: [0xB8, 0x01], at: 0, size: .bits32) == nil)
        #expect(Instruction(decoding: [0x06], at: 0, size: .bits64) == nil)  // push es, not in 64-bit mode
    }

    @Test func `any bytes decode or not, without a trap`() {
        var state: UInt64 = 1
        for _ in 0..<20_000 {
            var bytes: [UInt8] = []
            for _ in 0..<15 {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                bytes.append(UInt8(truncatingIfNeeded: state >> 33))
            }
            for size in CodeSize.allCases {
                guard let instruction = Instruction(decoding: bytes, at: state, size: size) else { continue }
                #expect((1...15).contains(instruction.byteCount))
                #expect(!instruction.text.isEmpty)
            }
        }
    }

    @Test func `the code size follows CS, CR0 and EFER`() {
        var state = VCPUState.reset
        #expect(CodeSize(of: state) == .bits16)
        state[.cs].attributes.insert(.defaultBig)
        #expect(CodeSize(of: state) == .bits16)  // real mode
        state[.cr0] |= 1
        #expect(CodeSize(of: state) == .bits32)
        state[.rflags] |= 1 << 17
        #expect(CodeSize(of: state) == .bits16)  // virtual-8086
        state[.rflags] = 2
        state[.cs].attributes.insert(.long)
        #expect(CodeSize(of: state) == .bits32)  // L counts in long mode only
        state[.efer] |= 1 << 10
        #expect(CodeSize(of: state) == .bits64)
    }
}
