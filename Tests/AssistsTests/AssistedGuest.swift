// A VCPU on the soft backend whose data page is either memory or a hole that a test's device answers for.

import Assists
import NVMM
import SoftBackend

/// A device that is a page of bytes, with a log of what came.
final class PageDevice: AssistCallbacks {
    var bytes = [UInt8](repeating: 0, count: 2 * pageBytes)
    let base: UInt64
    private(set) var memoryLog: [MemoryAccess] = []
    private(set) var ioLog: [IOAccess] = []
    /// What ports answer, in this order.
    var input: [UInt32] = []

    init(base: UInt64) { self.base = base }

    /// Its bytes from the first on, zeros behind; no log.
    func reset(_ data: [UInt8]) {
        bytes = data + [UInt8](repeating: 0, count: 2 * pageBytes - data.count)
        memoryLog = []
        ioLog = []
    }

    func access(_ io: inout IOAccess) {
        if io.isInput { io.value = input.isEmpty ? 0 : input.removeFirst() }
        ioLog.append(io)
    }

    func access(_ memory: inout MemoryAccess) {
        // Addresses outside fold into the pages: a wrong one shows as wrong data.
        let start = Int((memory.gpa.rawValue &- base) % UInt64(bytes.count - 8))
        if memory.isWrite {
            for index in 0..<memory.byteCount {
                bytes[start + index] = UInt8(truncatingIfNeeded: memory.value >> UInt64(index * 8))
            }
        } else {
            memory.value = (0..<memory.byteCount).reduce(0) { $0 | UInt64(bytes[start + $1]) << UInt64($1 * 8) }
        }
        memoryLog.append(memory)
    }
}

/// How the guest's processor is set up.
enum GuestMode: CaseIterable, Sendable { case real, protected32, long64 }

struct AssistedGuest {
    static let code: UInt64 = 0x1000
    static let data: UInt64 = 0x20000
    static let stack: UInt64 = 0x8000
    /// Paging structures in long mode.
    static let tables: UInt64 = 0x10000

    let machine: any Machine
    let vcpu: any VCPU
    let ram: MemoryObject
    /// The two data pages where they are memory.
    let dataObject: MemoryObject?
    let device = PageDevice(base: Self.data)
    /// Of the VCPU before anything happened to it.
    private let cleanPrivateState: [UInt8]

    /// - Parameter dataIsMemory: false leaves the two data pages to ``device``.
    init(_ mode: GuestMode, code: [UInt8], dataIsMemory: Bool = false, data: [UInt8] = []) throws {
        machine = try SoftBackend().createMachine()
        ram = try machine.hvaMap(byteCount: Int(Self.data))
        let all: Protection = [.read, .write, .execute]
        try machine.gpaMap(ram, offset: 0, gpa: GPA(0), byteCount: Int(Self.data), protection: all)
        if dataIsMemory {
            let object = try machine.hvaMap(byteCount: 2 * pageBytes)
            try machine.gpaMap(object, offset: 0, gpa: GPA(Self.data), byteCount: 2 * pageBytes, protection: all)
            try machine.write(object, at: 0, data)
            dataObject = object
        } else {
            device.bytes.replaceSubrange(0..<data.count, with: data)
            dataObject = nil
        }
        try machine.write(ram, at: Int(Self.code), code)
        // The descriptor table at 0: selectors 8 and 0x10 are flat code and data.
        let codeType: UInt8 = mode == .long64 ? 0xAF : 0xCF
        try machine.write(ram, at: 8, [0xFF, 0xFF, 0, 0, 0, 0x9B, codeType, 0, 0xFF, 0xFF, 0, 0, 0, 0x93, 0xCF, 0])
        vcpu = try machine.createVCPU(id: 0)
        cleanPrivateState = vcpu.savePrivateState()
        vcpu.commPage.state[.cs].selector = 0
        vcpu.commPage.state[.cs].base = 0
        vcpu.commPage.state[.rip] = Self.code
        vcpu.commPage.state[.rsp] = Self.stack
        if mode == .real {
            // Segments whose base reaches the data page: offsets of 16 bits.
            for register: SegmentRegister in [.ds, .es, .fs, .gs] {
                vcpu.commPage.state[register].selector = UInt16(Self.data >> 4)
                vcpu.commPage.state[register].base = Self.data
            }
        } else {
            enterProtectedMode(is64Bit: mode == .long64)
        }
        if mode == .long64 {
            var tables = [UInt64](repeating: 0, count: 3 * 512)
            tables[0] = Self.tables + 0x1003
            tables[512] = Self.tables + 0x2003
            tables[1024] = 0x83
            let bytes = tables.flatMap { entry in (0..<8).map { UInt8(truncatingIfNeeded: entry >> UInt64($0 * 8)) } }
            try machine.write(ram, at: Int(Self.tables), bytes)
        }
        vcpu.setState(.all)
    }

    private func enterProtectedMode(is64Bit: Bool) {
        let flat = SegmentAttributes(rawValue: 0x93).union([.defaultBig, .granularity])
        for register: SegmentRegister in [.es, .ss, .ds, .fs, .gs] {
            vcpu.commPage.state[register] = Segment(selector: 0x10, attributes: flat, limit: 0xFFFF_FFFF)
        }
        let width: SegmentAttributes = is64Bit ? .long : .defaultBig
        let code = SegmentAttributes(rawValue: 0x9B).union([width, .granularity])
        vcpu.commPage.state[.cs] = Segment(selector: 8, attributes: code, limit: 0xFFFF_FFFF)
        vcpu.commPage.state[.cr0] = is64Bit ? 0x8000_0011 : 0x11
        guard is64Bit else { return }
        vcpu.commPage.state[.cr3] = Self.tables
        vcpu.commPage.state[.cr4] = 0x20
        vcpu.commPage.state[.efer] = 0x500
    }

    /// The two data pages as they are now.
    var dataBytes: [UInt8] {
        guard let dataObject else { return device.bytes }
        return dataObject.withBytes(0..<dataObject.byteCount) { span in
            (0..<span.byteCount).map { unsafe span.unsafeLoad(fromByteOffset: $0, as: UInt8.self) }
        }
    }

    /// The guest raised what it has no handler for.
    struct ShutDown: Error {}

    /// As at the beginning, with other state, code and data.
    func reset(_ state: VCPUState, code: [UInt8], data: [UInt8]) throws {
        try machine.write(ram, at: Int(Self.code), code)
        // What an instruction may have stored near its stack.
        try machine.write(ram, at: Int(Self.stack) - 256, [UInt8](repeating: 0, count: 512))
        if let dataObject {
            try machine.write(dataObject, at: 0, data + [UInt8](repeating: 0, count: 2 * pageBytes - data.count))
        } else {
            device.reset(data)
        }
        try vcpu.restore(state, privateState: cleanPrivateState)
    }

    /// Runs one instruction, completing by assists what exits.
    ///
    /// - Returns: exits that were assisted.
    func step(endsAtShutdown: Bool = false) throws -> Int {
        let next = try vcpu.run(budget: 1)
        var exits = 0
        var result = next
        while true {
            switch result.exit.reason {
            case .memory(let exit): try assistMemory(vcpu, machine, exit: exit, callbacks: device)
            case .io(let exit): try assistIO(vcpu, machine, exit: exit, callbacks: device)
            case .shutdown where endsAtShutdown: throw ShutDown()
            default: return exits
            }
            exits += 1
            // Commits what the assist left, executes nothing.
            result = try vcpu.run(budget: 0)
            if vcpu.saveState()[.rip] != Self.code { return exits }
            result = try vcpu.run(budget: 1)
        }
    }
}
