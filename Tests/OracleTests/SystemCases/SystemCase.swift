// A system case: what it puts in place beyond the usual, and what is left when it ended.

/// Code segment and privilege that a case begins in.
struct SystemMode: Hashable, Sendable, CustomStringConvertible {
    var code: CodeMode
    var isUser: Bool

    var description: String { "\(code.rawValue) bits, CPL \(isUser ? 3 : 0)" }

    static let all: [SystemMode] = [CodeMode.bits64, .bits32, .bits16].flatMap { code in
        [SystemMode(code: code, isUser: false), SystemMode(code: code, isUser: true)]
    }
}

struct SystemCase: Sendable {
    /// Bytes at an offset of the case's page.
    struct Change: Sendable, Hashable {
        var offset: Int
        var bytes: [UInt8]
    }

    var kind: SystemCaseKind
    var mode: SystemMode
    var changes: [Change] = []
    var code: [UInt8] = []

    /// It reads and writes the same operand.
    var modifiesMemory = false
    /// Its gate has an IST.
    var usesInterruptStack = false

    /// The page that the driver is handed.
    func page(_ defaults: SystemDefaults) -> [UInt8] {
        var page = defaults.page(mode)
        for change in changes {
            page.replaceSubrange(change.offset..<change.offset + change.bytes.count, with: change.bytes)
        }
        page.replaceSubrange(CasePage.code..<CasePage.code + code.count, with: code)
        return page
    }

    /// What it is made of, a line each.
    var description: String {
        var rest = code[...]
        var instructions: [String] = []
        while !rest.isEmpty {
            instructions.append(InstructionText.of(Array(rest), mode: mode.code))
            guard let length = InstructionText.length(Array(rest), mode: mode.code) else { break }
            rest = rest.dropFirst(length)
        }
        let lines = changes.map { change in
            let value = OracleComparison.hex(change.bytes.prefix(8).littleEndian)
            return "  \(CasePage.name(of: change.offset & ~7)) [\(change.bytes.count)] = \(value)"
        }
        return (["\(kind), \(mode): \(instructions.joined(separator: "; "))  (\(InstructionText.hex(code)))"] + lines)
            .joined(separator: "\n")
    }
}

/// What a case left, in the layout of ``CasePage``.
struct SystemResult: Sendable, Equatable {
    var bytes: [UInt8]

    subscript(offset: Int) -> UInt64 { bytes[offset..<offset + 8].littleEndian }
}

/// What every case has unless it says otherwise.
struct SystemDefaults: Sendable {
    /// Linear address of the driver's entry for a vector.
    let stubs: UInt64
    private let pages: [SystemMode: [UInt8]]

    func page(_ mode: SystemMode) -> [UInt8] { pages[mode] ?? [] }
    func stub(_ vector: Int) -> UInt64 { stubs + UInt64(vector * DriverMemory.stubBytes) }

    /// - Parameter driver: the image as it is loaded.
    init(driver: [UInt8]) {
        let place = DriverMemory.stubsAddress - DriverMemory.loadAddress
        let address = driver[place..<place + 4].littleEndian
        stubs = address
        pages = Dictionary(uniqueKeysWithValues: SystemMode.all.map { ($0, Self.page($0, stubs: address)) })
    }

    private static func page(_ mode: SystemMode, stubs: UInt64) -> [UInt8] {
        var page = [UInt8](repeating: 0, count: CasePage.byteCount)
        func put(_ value: UInt64, at offset: Int, bytes: Int = 8) {
            page.replaceSubrange(offset..<offset + bytes, with: value.littleEndianBytes(bytes))
        }
        let base = mode.code == .bits16 ? CaseWindow.start : 0
        put(CaseWindow.code(user: mode.isUser) - base, at: CasePage.rip)
        put(UInt64(SystemSelector.code(mode)), at: CasePage.cs)
        put(0x2, at: CasePage.rflags)
        put(CaseWindow.data(user: mode.isUser) + UInt64(SystemStack.top), at: CasePage.rsp)
        put(UInt64(mode.isUser ? SystemSelector.userData : SystemSelector.data), at: CasePage.ss)
        for index in 0..<4 {
            let data = mode.isUser ? SystemSelector.userData : SystemSelector.data
            put(UInt64(data), at: CasePage.selectors + index * 2, bytes: 2)
        }
        put(UInt64(SystemSelector.ldt), at: CasePage.ldtr)
        put(0x8000_0033, at: CasePage.cr0)
        put(0x620, at: CasePage.cr4)
        put(0x901, at: CasePage.efer)
        put(0x0030_0008_0000_0000, at: CasePage.msrs)
        put(0x8, at: CasePage.msrs + 7 * 8)
        put(0x400, at: CasePage.dr7)
        // Code that goes astray meets INT3.
        for index in 0..<CasePage.codeBytes { page[CasePage.code + index] = 0xCC }
        for place in CasePage.scratch..<CasePage.byteCount { page[place] = 0xCC }
        // Two pages, each for the supervisor and for users, all accessed and dirty: only what cases ask for changes.
        let pages = [
            DriverMemory.data | 0x63, DriverMemory.data | 0x67, DriverMemory.code | 0x21, DriverMemory.code | 0x25,
        ]
        for (number, entry) in pages.enumerated() { put(entry, at: CasePage.entries + number * 8) }
        for (selector, descriptor) in SystemSelector.descriptors {
            put(descriptor, at: CasePage.gdt + Int(selector & ~7))
        }
        let stackTop = CaseWindow.data(user: false) + UInt64(SystemStack.inner)
        for level in 0..<3 { put(stackTop, at: CasePage.tss + 4 + level * 8) }
        put(DriverMemory.handlerStack, at: CasePage.tss + 0x24)
        for number in 1..<7 { put(stackTop, at: CasePage.tss + 0x24 + number * 8) }
        put(0x68, at: CasePage.tss + 0x66, bytes: 2)
        for vector in 0..<DriverMemory.vectors {
            let gate = SystemGate(
                selector: SystemSelector.code64, offset: stubs + UInt64(vector * DriverMemory.stubBytes), type: 14,
                level: vector == 3 ? 3 : 0, stack: 1)
            put(gate.low, at: CasePage.idt + vector * 16)
            put(gate.high, at: CasePage.idt + vector * 16 + 8)
        }
        return page
    }
}

/// Places in a case's data page.
enum SystemStack {
    /// RSP at the beginning: frames to return through lie above.
    static let top = 0x80
    /// RSP of the TSS, for every level.
    static let inner = 0x140
    /// Where far pointers and other operands are.
    static let operands = 0x148
}

/// What every case's GDT has.
enum SystemSelector {
    static let code64: UInt16 = 0x08, data: UInt16 = 0x10, tss: UInt16 = 0x18, code32: UInt16 = 0x28
    static let userCode32: UInt16 = 0x33, userData: UInt16 = 0x3B, userCode64: UInt16 = 0x43
    static let code16: UInt16 = 0x48, userCode16: UInt16 = 0x53, ldt: UInt16 = 0x58
    /// From here descriptors are the case's, up to 0xF8.
    static let firstRandom: UInt16 = 0x68

    static func code(_ mode: SystemMode) -> UInt16 {
        switch mode.code {
        case .bits64: mode.isUser ? userCode64 : code64
        case .bits32: mode.isUser ? userCode32 : code32
        case .bits16: mode.isUser ? userCode16 : code16
        }
    }

    static let descriptors: [(UInt16, UInt64)] = [
        (code64, 0x00AF_9B00_0000_FFFF), (data, 0x00CF_9300_0000_FFFF),
        (tss, 0x0000_8900_0000_00FF | (DriverMemory.tables + 0x180) << 16), (code32, 0x00CF_9B00_0000_FFFF),
        (userCode32, 0x00CF_FB00_0000_FFFF), (userData, 0x00CF_F300_0000_FFFF), (userCode64, 0x00AF_FB00_0000_FFFF),
        // Based at the window: in segments of 16 bits, TCG cuts EIP to 16 bits wherever it stops translating.
        (code16, 0x408F_9B00_0000_FFFF), (userCode16, 0x408F_FB00_0000_FFFF),
        (ldt, 0x0000_8200_0000_007F | (DriverMemory.tables + 0x100) << 16),
    ]
}

/// A gate of 16 bytes: in the IDT, or for calls (SDM vol. 3, 5.8.3.1 and 6.14.1).
struct SystemGate {
    var selector: UInt16
    var offset: UInt64
    var type: UInt64
    var level: UInt64
    var stack: UInt64 = 0
    var isPresent = true

    var low: UInt64 {
        offset & 0xFFFF | UInt64(selector) << 16 | stack << 32 | type << 40 | level << 45
            | (isPresent ? 1 << 47 : 0) | (offset >> 16 & 0xFFFF) << 48
    }
    var high: UInt64 { offset >> 32 }
}
