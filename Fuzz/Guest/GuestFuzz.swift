// libFuzzer entry for the soft backend: random memory and a random state, executed for a bounded number of
// instructions, interpreted once and translated twice. All three must end the same.

import NVMM
import SoftBackend

/// One machine that is put back to its beginning for each input.
private struct FuzzedMachine {
    static let ramBytes = 1 << 17
    /// Where an input's bytes begin.
    static let codeStart = 0x4000
    static let instructionsMax: UInt64 = 3000
    static let exitsMax = 64

    let machine: any SnapshottingMachine
    let ram: MemoryObject
    let vcpu: any VCPU
    let beginning: any MachineSnapshot

    init(_ translation: CodeTranslation) throws {
        let backend = SoftBackend(model: .baseV6, translation: translation)
        guard let machine = try backend.createMachine() as? any SnapshottingMachine else {
            fatalError("the soft backend takes snapshots")
        }
        self.machine = machine
        let ram = try machine.hvaMap(byteCount: Self.ramBytes)
        self.ram = ram
        try machine.gpaMap(
            ram, offset: 0, gpa: GPA(0), byteCount: Self.ramBytes, protection: [.read, .write, .execute])
        // The same again, so that one page has two addresses; and a part that cannot be written.
        try machine.gpaMap(ram, offset: 0, gpa: GPA(0x10_0000), byteCount: 0x8000, protection: [.read, .write])
        try machine.gpaMap(ram, offset: 0x8000, gpa: GPA(0x20_0000), byteCount: 0x4000, protection: [.read, .execute])
        vcpu = try machine.createVCPU(id: 0)
        // PML4, PDPT and page directory: 4 MiB by large pages, user, writable, accessed and dirty. The guest can only
        // read them: what a stale translation does is no bug, and not the same when blocks end elsewhere.
        let tables = try machine.hvaMap(byteCount: 3 * pageBytes)
        try machine.gpaMap(tables, offset: 0, gpa: GPA(0x30_0000), byteCount: tables.byteCount, protection: .read)
        func put(_ value: UInt64, at offset: Int) throws {
            try machine.withWritable(tables, offset..<offset + 8) { span in
                span.storeBytes(of: value, as: UInt64.self)
            }
        }
        try put(0x30_1027, at: 0)
        try put(0x30_2027, at: 0x1000)
        try put(0xE7, at: 0x2000)
        try put(0x20_00E7, at: 0x2008)
        beginning = try machine.takeSnapshot()
    }

    /// Executes an input: 80 bytes of state, then memory from ``codeStart``.
    ///
    /// - Returns: everything that is left.
    func execute(_ input: [UInt8]) throws -> [UInt64] {
        try machine.restore(beginning)
        func byte(_ index: Int) -> UInt64 { index < input.count ? UInt64(input[index]) : 0 }
        func word(_ index: Int) -> UInt64 { (0..<4).reduce(0) { $0 | byte(index + $1) << UInt64(8 * $1) } }
        let memory = Array(input.dropFirst(80).prefix(Self.ramBytes - Self.codeStart))
        if !memory.isEmpty {
            try machine.withWritable(ram, Self.codeStart..<Self.codeStart + memory.count) { span in
                for (index, value) in memory.enumerated() {
                    span.storeBytes(of: value, toByteOffset: index, as: UInt8.self)
                }
            }
        }
        vcpu.commPage.state = state(byte, word)
        vcpu.setState(.all)
        var left = Self.instructionsMax
        var seen: [UInt64] = []
        for _ in 0..<Self.exitsMax where left > 0 {
            let result = try vcpu.run(budget: left)
            left -= min(result.retired ?? left, left)
            seen.append(result.exit.reason.code)
            seen.append(result.retired ?? 0)
            guard try goOn(after: result.exit.reason) else { break }
        }
        vcpu.saveState().withWords { words in for index in words.indices { seen.append(words[index]) } }
        seen.append(machine.clock)
        seen.append(vcpu.undefinedFlags)
        ram.withBytes(0..<Self.ramBytes) { bytes in
            var hash: UInt64 = 0xCBF2_9CE4_8422_2325
            for offset in stride(from: 0, to: Self.ramBytes, by: 8) {
                let value = unsafe bytes.unsafeLoad(fromByteOffset: offset, as: UInt64.self)
                hash = (hash ^ value) &* 0x100_0000_01B3
            }
            seen.append(hash)
        }
        return seen
    }

    /// Any mode, most often 64 bits with pages; pointers that often meet memory.
    private func state(_ byte: (Int) -> UInt64, _ word: (Int) -> UInt64) -> VCPUState {
        var state = VCPUState.reset
        let mode = byte(0) & 7
        let level = byte(1) & 7 == 0 ? UInt16(3) : 0
        for index in 0..<16 {
            let value = word(8 + index * 4)
            state.gprs[index] = value & 1 == 0 ? value & 0x3F_FFFF : value << 33 | value
        }
        state[.rip] = UInt64(Self.codeStart)
        state[.rflags] = word(4) & 0x3F_7FD7 | 2
        state[.idt] = Segment(limit: UInt32(byte(2)) << 4, base: UInt64(Self.codeStart) + 0x400)
        state[.gdt] = Segment(limit: UInt32(byte(3)) << 3, base: UInt64(Self.codeStart) + 0x800)
        let rights = level << 5
        for register: SegmentRegister in [.es, .ss, .ds, .fs, .gs] {
            state[register] = Segment(
                selector: 16 | level, attributes: SegmentAttributes(rawValue: (mode == 0 ? 0x93 : 0xC93) | rights),
                limit: mode == 0 ? 0xFFFF : .max)
        }
        switch mode {
        case 0: state[.cs] = Segment(attributes: SegmentAttributes(rawValue: 0x93), limit: 0xFFFF)
        case 1, 2:
            state[.cs] = Segment(
                selector: 8 | level, attributes: SegmentAttributes(rawValue: 0xC9B | rights), limit: .max)
            state[.cr0] = 0x11
            state[.cr4] = 0x4_0600
        default:
            state[.cs] = Segment(
                selector: 8 | level, attributes: SegmentAttributes(rawValue: 0xA9B | rights), limit: .max)
            state[.cr0] = 0x8000_0011
            state[.cr3] = 0x30_0000
            state[.cr4] = 0x4_0620
            state[.efer] = 0xD01
        }
        return state
    }

    /// What the simplest client would do.
    private func goOn(after reason: ExitReason) throws -> Bool {
        let next: UInt64
        switch reason {
        case .io(let exit): next = exit.npc
        case .readMSR(let exit): next = exit.npc
        case .writeMSR(let exit): next = exit.npc
        case .monitor(let npc), .mwait(let npc), .cpuid(let npc): next = npc
        case .none, .tprChanged: return true
        default: return false
        }
        try vcpu.getState(.gprs)
        vcpu.commPage.state[.rip] = next
        vcpu.setState(.gprs)
        return true
    }
}

/// One after the other: the fuzzer calls from one thread.
private struct Machines: @unchecked Sendable {
    let interpreted: FuzzedMachine
    let translated: FuzzedMachine

    static let shared: Machines = {
        do {
            return Machines(
                interpreted: try FuzzedMachine(.never), translated: try FuzzedMachine(.after(executions: 2)))
        } catch {
            fatalError("no machine: \(error)")
        }
    }()
}

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzGuest(_ data: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
    let input = unsafe Array(UnsafeBufferPointer(start: data, count: count))
    do {
        let machines = Machines.shared
        let expected = try machines.interpreted.execute(input)
        for attempt in ["translated", "translated again"] {
            let actual = try machines.translated.execute(input)
            guard actual != expected else { continue }
            let places = zip(expected, actual).enumerated().filter { $1.0 != $1.1 }.map { place, values in
                "\(place) of \(expected.count): \(String(values.0, radix: 16)) | \(String(values.1, radix: 16))"
            }
            fatalError("\(attempt), it ends elsewhere: \(places.joined(separator: ", "))")
        }
    } catch {
        fatalError("the backend refused: \(error)")
    }
    return 0
}
