// The code bytes at a guest's RIP: segmentation and paging as SDM vol. 3, chapters 3 and 4, have them, without
// permission checks and without touching accessed bits.

internal import Disassembly
internal import NVMM

/// Reads a guest's code as its VCPU would fetch it.
struct GuestCode {
    /// A little-endian number of guest physical memory; nil where there is none.
    private let load: (_ gpa: UInt64, _ byteCount: UInt64) -> UInt64?

    init(load: @escaping (_ gpa: UInt64, _ byteCount: UInt64) -> UInt64?) { self.load = load }

    init(machine: any Machine) {
        load = { gpa, byteCount in
            guard let (object, offset, _) = machine.gpaToHVA(GPA(gpa)) else { return nil }
            let end = offset.addingReportingOverflow(Int(byteCount))
            guard offset >= 0, !end.overflow, end.partialValue <= object.byteCount else { return nil }
            return object.withBytes(offset..<end.partialValue) { bytes in
                var value: UInt64 = 0
                for index in 0..<Int(byteCount) {
                    value |= UInt64(bytes.byte(at: index)) << UInt64(index * 8)
                }
                return value
            }
        }
    }

    /// The instruction that a VCPU in `state` stands at.
    func instruction(at state: VCPUState, step: UInt64) -> InstructionPlace {
        let rip = state[.rip]
        let bytes = fetch(state, count: 15)
        guard let instruction = Instruction(decoding: bytes, at: rip, size: CodeSize(of: state)) else {
            return InstructionPlace(step: step, rip: rip, bytes: bytes, mnemonic: "", form: "", text: "")
        }
        return InstructionPlace(
            step: step, rip: rip, bytes: Array(bytes.prefix(instruction.byteCount)), mnemonic: instruction.mnemonic,
            form: instruction.form, text: instruction.text)
    }

    /// Whether a VCPU in `state` stands at a string instruction behind REP, REPE or REPNE.
    func isRepeated(at state: VCPUState) -> Bool {
        let bytes = fetch(state, count: 15)
        return Instruction(decoding: bytes, at: state[.rip], size: CodeSize(of: state))?.isRepeated ?? false
    }

    /// Up to `count` bytes from CS:RIP; fewer where a page is not there.
    private func fetch(_ state: VCPUState, count: Int) -> [UInt8] {
        let size = CodeSize(of: state)
        var bytes: [UInt8] = []
        for index in 0..<UInt64(count) {
            let offset = state[.rip] &+ index
            let linear = size == .bits64 ? offset : (state[.cs].base &+ offset) & 0xFFFF_FFFF
            guard let physical = translate(linear, state), let byte = load(physical, 1) else { break }
            bytes.append(UInt8(truncatingIfNeeded: byte))
        }
        return bytes
    }

    private func translate(_ linear: UInt64, _ state: VCPUState) -> UInt64? {
        guard state[.cr0] & 1 << 31 != 0 else { return linear }
        let longMode = state[.efer] & 1 << 10 != 0
        let pae = state[.cr4] & 1 << 5 != 0
        let addressMask: UInt64 = 0x000F_FFFF_FFFF_F000
        if longMode {
            return walk(from: state[.cr3] & addressMask, linear, shifts: [39, 30, 21, 12], indexBits: 9)
        }
        if pae {
            // The four page-directory-pointer entries have no large-page bit.
            let base = state[.cr3] & 0xFFFF_FFE0
            guard let entry = load(base + (linear >> 30 & 3) * 8, 8), entry & 1 != 0 else { return nil }
            return walk(from: entry & addressMask, linear, shifts: [21, 12], indexBits: 9)
        }
        return walk(from: state[.cr3] & 0xFFFF_F000, linear, shifts: [22, 12], indexBits: 10)
    }

    private func walk(from root: UInt64, _ linear: UInt64, shifts: [UInt64], indexBits: UInt64) -> UInt64? {
        let entryBytes: UInt64 = indexBits == 9 ? 8 : 4
        var table = root
        for shift in shifts {
            let index = linear >> shift & ((1 << indexBits) - 1)
            guard let entry = load(table + index * entryBytes, entryBytes), entry & 1 != 0 else {
                return nil
            }
            let frame = entry & (entryBytes == 8 ? 0x000F_FFFF_FFFF_F000 : 0xFFFF_F000)
            let isLeaf = shift == 12 || (shift <= 30 && entry & 1 << 7 != 0)
            if isLeaf {
                let offsetMask: UInt64 = (1 << shift) - 1
                // PSE-36: bits 20:13 of a 4 MiB entry are address bits 39:32.
                let high = entryBytes == 4 && shift == 22 ? (entry >> 13 & 0xFF) << 32 : 0
                return (frame & ~offsetMask) | high | (linear & offsetMask)
            }
            table = frame
        }
        return nil
    }
}

extension RawSpan {
    /// The byte at `index`, checked.
    func byte(at index: Int) -> UInt8 {
        precondition(index >= 0 && index < byteCount)
        // SAFETY: the index was just checked; a byte has no alignment.
        return unsafe unsafeLoad(fromByteOffset: index, as: UInt8.self)
    }
}
