import NVMM
import Testing

@Suite struct VCPUStateTests {
    @Test func `the state has the layout of struct nvmm_x64_state`() {
        #expect(MemoryLayout<VCPUState>.size == 1008)
        #expect(MemoryLayout<VCPUState>.alignment == 16)
        #expect(MemoryLayout<VCPUState>.offset(of: \.segments) == 0)
        #expect(MemoryLayout<VCPUState>.offset(of: \.gprs) == 160)
        #expect(MemoryLayout<VCPUState>.offset(of: \.crs) == 304)
        #expect(MemoryLayout<VCPUState>.offset(of: \.drs) == 352)
        #expect(MemoryLayout<VCPUState>.offset(of: \.msrs) == 400)
        #expect(MemoryLayout<VCPUState>.offset(of: \.interrupt) == 488)
        #expect(MemoryLayout<VCPUState>.offset(of: \.fpu) == 496)
        #expect(MemoryLayout<Segment>.size == 16)
        #expect(MemoryLayout<FXSaveArea>.offset(of: \.mxcsr) == 24)
        #expect(MemoryLayout<FXSaveArea>.offset(of: \.x87) == 32)
        #expect(MemoryLayout<FXSaveArea>.offset(of: \.xmm) == 160)
        #expect(MemoryLayout<FXSaveArea>.size == 512)
    }

    @Test func `the parts cover every word once`() {
        let ranges = VCPUState.parts.map(VCPUState.wordRange)
        #expect(ranges.flatMap { $0 } == Array(0..<VCPUState.wordCount))
    }

    @Test func `words are the registers in memory order`() {
        var state = VCPUState()
        state[.rip] = 0x1234
        state.withMutableWords { (words: inout MutableSpan<UInt64>) in
            #expect(words[20 + GPR.rip.rawValue] == 0x1234)
            words[20 + GPR.rbx.rawValue] = 7
        }
        #expect(state[.rbx] == 7)
    }
}
