// A machine with one VCPU, some memory and descriptor tables, for tests that drive a backend through NVMM's API.

public import NVMM

/// Where things stand in a ``GuestMachine``'s memory. Paging, where it is on, maps them to themselves.
public enum GuestLayout {
    public static let gdt: UInt64 = 0x1000
    public static let idt: UInt64 = 0x2000
    public static let task: UInt64 = 0x3000
    public static let otherTask: UInt64 = 0x3200
    public static let ldt: UInt64 = 0x3800
    /// Handler of vector n: `handlers + 16 n`. Each is HLT until a test writes something else.
    public static let handlers: UInt64 = 0x4000
    public static let code: UInt64 = 0x8000
    /// Tops of stacks: the one in use at CPL 0, that of the TSS for levels 0 and 1, of IST1, of CPL 3.
    public static let stack: UInt64 = 0xA000
    public static let innerStack: UInt64 = 0xB000
    public static let innerStackLevel1: UInt64 = 0xB800
    public static let interruptStack: UInt64 = 0xC000
    public static let userStack: UInt64 = 0xD000
    public static let data: UInt64 = 0xE000
    public static let pageTables: UInt64 = 0x1_0000
}

/// A VCPU in memory of 2 MiB at GPA 0, in real, protected or long mode, with every vector's handler set up.
public final class GuestMachine {
    public let machine: any Machine
    public let vcpu: any VCPU
    public let memory: MemoryObject
    private var idtEntryBytes: UInt64 = 4

    public init(_ backend: any Backend) throws {
        machine = try backend.createMachine()
        vcpu = try machine.createVCPU(id: 0)
        memory = try machine.hvaMap(byteCount: 2 << 20)
        try machine.gpaMap(
            memory, offset: 0, gpa: GPA(0), byteCount: memory.byteCount, protection: [.read, .write, .execute])
        for vector in 0..<UInt64(256) { try write([0xF4], at: GuestLayout.handlers + vector * 16) }  // hlt
    }

    // MARK: Memory

    public func write(_ bytes: [UInt8], at gpa: UInt64) throws {
        try machine.write(memory, at: Int(gpa), bytes)
    }

    public func write16(_ value: UInt16, at gpa: UInt64) throws { try write(UInt64(value), byteCount: 2, at: gpa) }
    public func write32(_ value: UInt32, at gpa: UInt64) throws { try write(UInt64(value), byteCount: 4, at: gpa) }
    public func write64(_ value: UInt64, at gpa: UInt64) throws { try write(value, byteCount: 8, at: gpa) }

    private func write(_ value: UInt64, byteCount: UInt64, at gpa: UInt64) throws {
        try write((0..<byteCount).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }, at: gpa)
    }

    public func read(_ gpa: UInt64, byteCount: Int) -> [UInt8] {
        memory.withBytes(Int(gpa)..<Int(gpa) + byteCount) { bytes in
            (0..<byteCount).map { bytes.byte(at: $0) }
        }
    }

    public func read64(_ gpa: UInt64, byteCount: Int = 8) -> UInt64 {
        read(gpa, byteCount: byteCount).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
    public func read16(_ gpa: UInt64) -> UInt16 { UInt16(read64(gpa, byteCount: 2)) }
    public func read32(_ gpa: UInt64) -> UInt32 { UInt32(read64(gpa, byteCount: 4)) }

    // MARK: State

    /// All of the VCPU's state; setting it commits all of it at the next run.
    public var state: VCPUState { vcpu.saveState() }

    /// Changes state that the next run installs.
    public func change(_ body: (inout VCPUState) -> Void) {
        // What is committed and not yet run stands in the comm page only.
        var state = vcpu.commPage.stateCommit.isEmpty ? vcpu.saveState() : vcpu.commPage.state
        body(&state)
        vcpu.commPage.state = state
        vcpu.setState(.all)
    }

    public subscript(register: GPR) -> UInt64 { state[register] }
    public subscript(register: CR) -> UInt64 { state[register] }
    public subscript(register: DR) -> UInt64 { state[register] }
    public subscript(register: SegmentRegister) -> Segment { state[register] }

    /// The privilege level, as NVMM shows it.
    public var level: UInt8 { state[.ss].attributes.dpl }

    // MARK: Running

    /// Runs until an exit, or for `budget` instructions.
    @discardableResult public func run(budget: UInt64 = 10_000) throws -> VCPUExit {
        try vcpu.run(budget: budget).exit
    }

    /// Puts `code` at ``GuestLayout/code`` and runs it from there.
    @discardableResult public func run(_ code: [UInt8], budget: UInt64 = 10_000) throws -> VCPUExit {
        try write(code, at: GuestLayout.code)
        return try run(budget: budget)
    }

    public func inject(_ event: VCPUEvent) {
        vcpu.commPage.event = event
        vcpu.inject()
    }

    /// The vector whose handler the VCPU halted in, or nil.
    public var haltedVector: Int? {
        let rip = state[.rip] &- 1
        guard rip >= GuestLayout.handlers, rip < GuestLayout.handlers + 0x1000, rip & 0xF == 0 else { return nil }
        return Int((rip - GuestLayout.handlers) / 16)
    }

    /// The value `place` slots above the top of the stack.
    public func stackSlot(_ place: UInt64, byteCount: Int) -> UInt64 {
        let state = state
        let isLong = state[.efer] & 0x400 != 0 && state[.cs].attributes.contains(.long)
        let top =
            isLong
            ? state[.rsp]
            : state[.ss].base + (state[.rsp] & (state[.ss].attributes.contains(.defaultBig) ? 0xFFFF_FFFF : 0xFFFF))
        return read64(top + place * UInt64(byteCount), byteCount: byteCount)
    }

    // MARK: - Modes

    /// Real mode, code at 0000:8000, stack at 0000:A000, IVT at 0 with all vectors at ``GuestLayout/handlers``.
    public func enterReal() throws {
        for vector in 0..<UInt64(256) {
            try write32(UInt32(GuestLayout.handlers + vector * 16), at: vector * 4)
        }
        change { state in
            for register: SegmentRegister in [.es, .cs, .ss, .ds, .fs, .gs] {
                state[register] = Segment(attributes: SegmentAttributes(rawValue: 0x93), limit: 0xFFFF)
            }
            state[.idt].limit = 0x3FF
            state[.rip] = GuestLayout.code
            state[.rsp] = GuestLayout.stack
            state[.rflags] = 2
        }
    }

    private static func flat(_ selector: UInt16, _ rights: UInt16) -> Segment {
        Segment(selector: selector, attributes: SegmentAttributes(rawValue: rights), limit: 0xFFFF_FFFF)
    }

    private func installTables(isLong: Bool) throws {
        let gdt: [(UInt16, UInt64)] = [
            (0, 0),
            (GuestSelector.code32, GuestDescriptor.segment(access: 0x9B)),
            (GuestSelector.data32, GuestDescriptor.segment(access: 0x93)),
            (GuestSelector.userCode32, GuestDescriptor.segment(access: 0xFB)),
            (GuestSelector.userData32, GuestDescriptor.segment(access: 0xF3)),
            (GuestSelector.code64, GuestDescriptor.segment(access: 0x9B, flags: 0xA)),
            (GuestSelector.userCode64, GuestDescriptor.segment(access: 0xFB, flags: 0xA)),
            (
                GuestSelector.task,
                GuestDescriptor.segment(base: UInt32(GuestLayout.task), limit: 0x67, access: 0x8B, flags: 0)
            ),
            (GuestSelector.task + 8, 0),
            (
                GuestSelector.ldt,
                GuestDescriptor.segment(base: UInt32(GuestLayout.ldt), limit: 0x3F, access: 0x82, flags: 0)
            ),
            (GuestSelector.code16, GuestDescriptor.segment(limit: 0xFFFF, access: 0x9B, flags: 0)),
            (GuestSelector.data16, GuestDescriptor.segment(limit: 0xFFFF, access: 0x93, flags: 0)),
            (GuestSelector.conforming32, GuestDescriptor.segment(access: 0x9F)),
            (GuestSelector.code32Level1, GuestDescriptor.segment(access: 0xBB)),
            (GuestSelector.data32Level1, GuestDescriptor.segment(access: 0xB3)),
            (GuestSelector.scratch, 0), (GuestSelector.scratch + 8, 0),
            (
                GuestSelector.otherTask,
                GuestDescriptor.segment(base: UInt32(GuestLayout.otherTask), limit: 0x67, access: 0x89, flags: 0)
            ),
            (GuestSelector.absentData, GuestDescriptor.segment(access: 0x13)),
            (GuestSelector.readOnlyData, GuestDescriptor.segment(access: 0x91)),
            (GuestSelector.executeOnly, GuestDescriptor.segment(access: 0x99)),
            (GuestSelector.absentCode, GuestDescriptor.segment(access: 0x1B)),
        ]
        for (selector, descriptor) in gdt { try setDescriptor(selector, descriptor) }
        idtEntryBytes = isLong ? 16 : 8
        for vector in 0..<256 {
            try setGate(vector, selector: isLong ? GuestSelector.code64 : GuestSelector.code32, access: 0x8E)
        }
    }

    /// Replaces an entry of the GDT (or of the LDT).
    public func setDescriptor(_ selector: UInt16, _ descriptor: UInt64) throws {
        let table = selector & 4 == 0 ? GuestLayout.gdt : GuestLayout.ldt
        try write64(descriptor, at: table + UInt64(selector & 0xFFF8))
    }

    public func descriptor(_ selector: UInt16) -> UInt64 {
        read64((selector & 4 == 0 ? GuestLayout.gdt : GuestLayout.ldt) + UInt64(selector & 0xFFF8))
    }

    /// Replaces a gate of the IDT; its offset is the vector's handler unless given.
    ///
    /// - Parameter count: interrupt stack, in long mode.
    public func setGate(
        _ vector: Int, selector: UInt16, access: UInt8, offset: UInt64? = nil, count: UInt8 = 0
    ) throws {
        let offset = offset ?? GuestLayout.handlers + UInt64(vector) * 16
        let place = GuestLayout.idt + UInt64(vector) * idtEntryBytes
        try write64(
            GuestDescriptor.gate(
                selector: selector, offset: UInt32(truncatingIfNeeded: offset), access: access, count: count),
            at: place)
        if idtEntryBytes == 16 { try write64(offset >> 32, at: place + 8) }
    }

    /// 32-bit protected mode without paging, flat segments, at CPL 0 or 3, with a 32-bit TSS.
    public func enterProtected(level: UInt8 = 0, flags: UInt64 = 2) throws {
        try installTables(isLong: false)
        try write32(UInt32(GuestLayout.innerStack), at: GuestLayout.task + 4)
        try write16(GuestSelector.data32, at: GuestLayout.task + 8)
        try write32(UInt32(GuestLayout.innerStackLevel1), at: GuestLayout.task + 12)
        try write16(GuestSelector.data32Level1, at: GuestLayout.task + 16)
        let isUser = level == 3
        change { state in
            state[.cs] = isUser ? Self.flat(GuestSelector.userCode32, 0xCFB) : Self.flat(GuestSelector.code32, 0xC9B)
            let data = isUser ? Self.flat(GuestSelector.userData32, 0xCF3) : Self.flat(GuestSelector.data32, 0xC93)
            for register: SegmentRegister in [.es, .ss, .ds, .fs, .gs] { state[register] = data }
            Self.setTables(&state, idtLimit: 0x7FF)
            state[.rip] = GuestLayout.code
            state[.rsp] = isUser ? GuestLayout.userStack : GuestLayout.stack
            state[.rflags] = flags
            state[.cr0] = 0x11
        }
    }

    private static func setTables(_ state: inout VCPUState, idtLimit: UInt32) {
        state[.gdt] = Segment(attributes: SegmentAttributes(rawValue: 0x82), limit: 0xAF, base: GuestLayout.gdt)
        state[.idt] = Segment(attributes: SegmentAttributes(rawValue: 0x82), limit: idtLimit, base: GuestLayout.idt)
        state[.ldt] = Segment(
            selector: GuestSelector.ldt, attributes: SegmentAttributes(rawValue: 0x82), limit: 0x3F,
            base: GuestLayout.ldt)
        state[.tr] = Segment(
            selector: GuestSelector.task, attributes: SegmentAttributes(rawValue: 0x8B), limit: 0x67,
            base: GuestLayout.task)
    }

    /// 64-bit mode at CPL 0 or 3, or compatibility mode (32-bit code). The first 2 MiB are mapped to themselves by
    /// 4 KiB pages that user mode may write; their entries are at ``pageEntry(_:)``.
    public func enterLong(level: UInt8 = 0, compatibility: Bool = false, flags: UInt64 = 2) throws {
        try installTables(isLong: true)
        try write64(GuestLayout.innerStack, at: GuestLayout.task + 4)
        try write64(GuestLayout.innerStackLevel1, at: GuestLayout.task + 12)
        try write64(GuestLayout.interruptStack, at: GuestLayout.task + 36)
        let tables = GuestLayout.pageTables
        try write64(tables + 0x1007, at: tables)
        try write64(tables + 0x2007, at: tables + 0x1000)
        try write64(tables + 0x3007, at: tables + 0x2000)
        for page in 0..<UInt64(512) { try write64(page << 12 | 7, at: tables + 0x3000 + page * 8) }
        let isUser = level == 3
        change { state in
            let code =
                switch (compatibility, isUser) {
                case (false, false): Self.flat(GuestSelector.code64, 0xA9B)
                case (false, true): Self.flat(GuestSelector.userCode64, 0xAFB)
                case (true, false): Self.flat(GuestSelector.code32, 0xC9B)
                case (true, true): Self.flat(GuestSelector.userCode32, 0xCFB)
                }
            state[.cs] = code
            let data = isUser ? Self.flat(GuestSelector.userData32, 0xCF3) : Self.flat(GuestSelector.data32, 0xC93)
            for register: SegmentRegister in [.es, .ss, .ds, .fs, .gs] { state[register] = data }
            Self.setTables(&state, idtLimit: 0xFFF)
            state[.rip] = GuestLayout.code
            state[.rsp] = isUser ? GuestLayout.userStack : GuestLayout.stack
            state[.rflags] = flags
            state[.cr0] = 0x8000_0011
            state[.cr3] = tables
            state[.cr4] = 0x20
            state[.efer] = 0xD01
        }
    }

    /// GPA of the page-table entry of `linear` in long mode.
    public func pageEntry(_ linear: UInt64) -> UInt64 { GuestLayout.pageTables + 0x3000 + (linear >> 12) * 8 }
}

extension RawSpan {
    fileprivate func byte(at offset: Int) -> UInt8 {
        // SAFETY: `offset` is below the span's length, checked by the caller's range.
        unsafe unsafeLoad(fromByteOffset: offset, as: UInt8.self)
    }
}
