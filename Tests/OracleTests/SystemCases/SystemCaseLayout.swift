// Where the driver of system cases (driver.asm) has what: guest memory, and the page of a case or of its result.

/// Guest physical memory of the driver.
enum DriverMemory {
    static let ramBytes = 16 << 20
    static let loadAddress = Int(SystemImage.loadAddress)
    /// Holds the address of the vectors' entries, ``stubBytes`` each.
    static let stubsAddress = 0x7C08
    static let stubBytes = 16
    static let vectors = 0x48
    static let tables: UInt64 = 0x10000
    static let data: UInt64 = 0x11000
    static let code: UInt64 = 0x12000
    static let scratch: UInt64 = 0x13000
    /// A page of INT3 that 16 bits of address reach; the supervisor's.
    static let lowBreakpoints: UInt64 = 0xC000
    static let scratchPages = 4
    static let windowTable: UInt64 = 0x5000
    /// Top of the stack that a plain gate switches to.
    static let handlerStack: UInt64 = 0x1B000
    static let command = 0x1C000
    static let current = 0x1C008
    static let cases = 0x20_0000
    static let results = 0x80_0000
    static let pageBytes = 0x1000
    static let casesMax = 1024
}

/// Linear addresses of what a case may touch. Two pages are there twice: for the supervisor and for users.
enum CaseWindow {
    static let start: UInt64 = 0x4000_0000
    /// What the second entry of the window's page directory maps, as the case has it.
    static let second: UInt64 = 0x4020_0000
    static func page(_ number: Int) -> UInt64 { start + UInt64(number) << 12 }
    static func data(user: Bool) -> UInt64 { page(user ? 1 : 0) }
    static func code(user: Bool) -> UInt64 { page(user ? 3 : 2) }
    /// The pages from here have entries as the case has them.
    static let firstRandom = 4
    static let entries = 16
}

/// Offsets in the page of a case, and of its result.
enum CasePage {
    static let byteCount = 0xC00
    /// In the order of ModRM.
    static let registers = 0x000
    static let rip = 0x080, cs = 0x088, rflags = 0x090, rsp = 0x098, ss = 0x0A0
    /// DS, ES, FS, GS.
    static let selectors = 0x0A8
    /// LDTR; in results then TR.
    static let ldtr = 0x0B0
    static let cr0 = 0x0B8, cr4 = 0x0C0, efer = 0x0C8
    static let msrs = 0x0D0
    static let debugRegisters = 0x120, dr7 = 0x140
    // Of results only.
    static let dr6 = 0x148, cr2 = 0x150, vector = 0x158, error = 0x160
    static let code = 0x180, codeBytes = 0x40
    static let entries = 0x1C0, directoryEntry = 0x240
    static let data = 0x280, dataBytes = 0x180
    static let tables = 0x400
    static let gdt = tables, ldt = tables + 0x100, tss = tables + 0x180, idt = tables + 0x280
    static let ioMap = tss + 0x68
    static let scratch = 0xB00, scratchBytes = 0x40

    static let msrNames = [
        "STAR", "LSTAR", "CSTAR", "FMASK", "KERNEL_GS_BASE", "FS_BASE", "GS_BASE", "SYSENTER_CS", "SYSENTER_ESP",
        "SYSENTER_EIP",
    ]
    static let msrNumbers: [UInt32] = [
        0xC000_0081, 0xC000_0082, 0xC000_0083, 0xC000_0084, 0xC000_0102, 0xC000_0100, 0xC000_0101, 0x174, 0x175, 0x176,
    ]

    /// What a report calls the eight bytes at an offset.
    static func name(of offset: Int) -> String {
        let registerNames = [
            "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
            "r15",
        ]
        let single = [
            rip: "rip", cs: "cs", rflags: "rflags", rsp: "frame rsp", ss: "ss", selectors: "gs fs es ds",
            ldtr: "tr ldtr", cr0: "cr0", cr4: "cr4", efer: "efer", dr7: "dr7", dr6: "dr6", cr2: "cr2",
            vector: "vector", error: "error code", directoryEntry: "directory entry",
        ]
        func inside(_ name: String, _ start: Int) -> String { "\(name)+\(String(offset - start, radix: 16))" }
        if let name = single[offset] { return name }
        return switch offset {
        case registers..<rip: registerNames[offset / 8]
        case msrs..<msrs + 80: msrNames[(offset - msrs) / 8]
        case debugRegisters..<dr7: "dr\((offset - debugRegisters) / 8)"
        case code..<code + codeBytes: inside("code", code)
        case entries..<directoryEntry: "entry of page \((offset - entries) / 8)"
        case data..<data + dataBytes: inside("data", data)
        case gdt..<ldt: inside("GDT", gdt)
        case ldt..<tss: inside("LDT", ldt)
        case tss..<idt: inside("TSS", tss)
        case idt..<scratch: "gate of vector \((offset - idt) / 16)\((offset - idt) % 16 == 0 ? "" : ", upper half")"
        case scratch..<byteCount:
            "scratch page \((offset - scratch) / scratchBytes)"
                + "+\(String((offset - scratch) % scratchBytes, radix: 16))"
        default: inside("page", 0)
        }
    }
}
