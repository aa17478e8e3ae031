// Memory that holds translated blocks, and the way into them and out again.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Where guest registers are while translated code runs, and what else it finds at its side.
///
/// It is handed the address of ``CPU/gpr`` plus ``bias``, so that most slots are a signed byte away.
enum TranslatedFrame {
    static let bias: Int32 = 128

    /// Slots of ``CPU/gpr``, behind the registers.
    enum Slot: UInt8 {
        /// OF in bit 0; SF, ZF, AF, PF and CF in bits 8 to 15 as LAHF has them; ``FlagMarks`` in bits 16 to 31.
        case flags = 18
        /// Instructions that may still retire.
        case left
        /// First of the ``ChainTable``'s entries.
        case chains
        /// What an entry of the table must have been made under.
        case stamp
        case readTLB, writeTLB
        case fsBase, gsBase
        /// Where control went, when it left.
        case rip
        /// ``CPU/undefinedFlagsRIP``.
        case undefinedFlagsRIP
        /// For the length of one instruction.
        case scratch
        /// Address of ``CPU/xmm``, and whether the control registers let them be used: not 0.
        case vectors, vectorsAreOn
        /// What the time-stamp counter would be with ``left`` at zero, and whether it may be read just so: not 0.
        case timestampBase, timestampIsPlain
        /// ``CPU/timestampReads`` and ``CPU/timestampReadRIP``.
        case timestampReads, timestampReadRIP
    }

    /// The host's register that holds a guest's, or nil where it stays in its slot. RAX, RCX, RDX and RBX are the
    /// translator's own.
    static func hostRegister(_ register: UInt8) -> UInt8? {
        switch register {
        case 0...5: 8 + register
        case 6, 7: register
        case 8: 14
        case 9: 15
        case 12: 5
        default: nil
        }
    }

    static let heldRegisters: [UInt8] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12]

    static func slot(_ register: UInt8) -> HostOperand {
        .memory(base: HostRegister.rbx, displacement: Int32(register) * 8 - bias)
    }
    static func slot(_ slot: Slot) -> HostOperand { Self.slot(slot.rawValue) }
    /// Byte 1 of ``Slot/flags``.
    static var highFlags: HostOperand {
        .memory(base: HostRegister.rbx, displacement: Int32(Slot.flags.rawValue) * 8 - bias + 1)
    }
    /// Bytes 2 and 3 of ``Slot/flags``.
    static var marks: HostOperand {
        .memory(base: HostRegister.rbx, displacement: Int32(Slot.flags.rawValue) * 8 - bias + 2)
    }
}

/// Memory for code of the host, filled from its start; forgotten as a whole.
///
/// SAFETY: one mapping of `capacity` bytes, unmapped in deinit; `used` never exceeds it. What is called was written by
/// ``Translator``, which jumps nowhere but within this memory, and the mapping lives as long as the ``CodeCache`` that
/// owns it, which the processor that calls holds.
@safe final class TranslatedCode {
    private static let capacity = 64 << 20
    /// Of one block at most: what is longer is not translated.
    private static let blockBytesMax = 16 << 10

    private let memory: UnsafeMutablePointer<UInt8>
    private var used = 0
    /// Translations that were kept since the start.
    private(set) var blockCount = 0
    /// Bytes of the way in and out, which stay.
    private var preamble = 0
    /// Addresses of the ways out: with a position in the block in EAX, and with a target in RAX.
    private(set) var leave: UInt64 = 0
    private(set) var leaveForTarget: UInt64 = 0

    /// - Returns: nil where the host does not let memory be executed that was written, or is another processor.
    init?() {
        #if arch(x86_64)
            let mapping = unsafe mmap(
                nil, Self.capacity, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0)
            guard let address = unsafe mapping, unsafe address != MAP_FAILED else { return nil }
            unsafe memory = address.assumingMemoryBound(to: UInt8.self)
            writePreamble()
        #else
            return nil
        #endif
    }

    deinit { unsafe munmap(memory, Self.capacity) }

    var hasRoom: Bool { used + Self.blockBytesMax <= Self.capacity }

    func removeAll() { used = preamble }

    var assembler: HostAssembler {
        unsafe HostAssembler(memory + used, capacity: min(Self.blockBytesMax, Self.capacity - used))
    }

    /// Keeps what was appended to ``assembler``.
    func keep(_ assembler: HostAssembler) {
        used += (assembler.count + 15) & ~15
        blockCount += 1
    }

    private func writePreamble() {
        var code = assembler
        let saved: [UInt8] = [3, 5, 12, 13, 14, 15]
        // void enter(frame, code): System V ABI, RDI and RSI.
        for register in saved { push(&code, register) }
        code.load(HostRegister.rbx, .register(HostRegister.rdi))
        code.load(HostRegister.rax, .register(HostRegister.rsi))
        for guest in TranslatedFrame.heldRegisters {
            guard let host = TranslatedFrame.hostRegister(guest) else { continue }
            code.load(host, TranslatedFrame.slot(guest))
        }
        code.jump(through: .register(HostRegister.rax))

        leaveForTarget = code.here
        code.store(TranslatedFrame.slot(.rip), HostRegister.rax)
        code.move(HostRegister.rax, UInt64(TranslatedExit.target.rawValue))
        leave = code.here
        for guest in TranslatedFrame.heldRegisters {
            guard let host = TranslatedFrame.hostRegister(guest) else { continue }
            code.store(TranslatedFrame.slot(guest), host)
        }
        for register in saved.reversed() {
            if register > 7 { code.byte(0x41) }
            code.byte(0x58 | register & 7)
        }
        code.byte(0xC3)
        keep(code)
        preamble = used
    }

    private func push(_ code: inout HostAssembler, _ register: UInt8) {
        if register > 7 { code.byte(0x41) }
        code.byte(0x50 | register & 7)
    }

    var entrance: TranslatedEntrance { unsafe TranslatedEntrance(memory) }
}

/// The way into translated code.
///
/// SAFETY: as of ``TranslatedCode``, whose memory it points to: used by processors of the machine that owns it.
@safe struct TranslatedEntrance {
    private typealias Function = @convention(c) (UnsafeMutableRawPointer, UInt64) -> UInt64
    private let enter: Function

    init(_ memory: UnsafeMutablePointer<UInt8>) { unsafe enter = unsafeBitCast(memory, to: Function.self) }

    /// Executes translated code until it leaves.
    ///
    /// - Parameters:
    ///   - address: of a block's translation.
    ///   - frame: the registers, see ``TranslatedFrame``.
    @inline(__always) func execute(_ address: UInt64, _ frame: UnsafeMutablePointer<UInt64>) -> TranslatedExit {
        let biased = unsafe UnsafeMutableRawPointer(frame) + Int(TranslatedFrame.bias)
        return unsafe TranslatedExit(rawValue: UInt32(truncatingIfNeeded: enter(biased, address)))
    }
}

/// Why translated code left.
struct TranslatedExit: Equatable {
    let rawValue: UInt32

    /// To a block that is not known to be translated: ``TranslatedFrame/Slot/rip`` says where.
    static let target = TranslatedExit(rawValue: .max)

    init(rawValue: UInt32) { self.rawValue = rawValue }
    /// Before an instruction that the interpreter has to execute.
    init(block: Int32, instruction: Int) { rawValue = UInt32(bitPattern: block) << 8 | UInt32(instruction) }

    var block: Int32 { Int32(bitPattern: rawValue >> 8) }
    var instruction: Int { Int(rawValue & 0xFF) }
}

/// Where translated code goes on: translations of blocks by RIP.
///
/// SAFETY: one allocation of two tables, for supervisor and user, of ``entryCount`` entries; indices are masked.
/// Translated code reads it, at the same offsets.
@safe struct ChainTable: ~Copyable {
    static let entryCount: UInt64 = 8192
    static let entryShift: UInt8 = 5

    struct Entry {
        /// No address that code is at, since it is not canonical.
        var rip: UInt64 = 1 << 63
        var stamp: UInt64 = 0
        var code: UInt64 = 0
        private var padding: UInt64 = 0
    }

    private let entries: UnsafeMutablePointer<Entry>

    init() {
        unsafe entries = .allocate(capacity: 2 * Int(Self.entryCount))
        unsafe entries.initialize(repeating: Entry(), count: 2 * Int(Self.entryCount))
    }

    deinit { unsafe entries.deallocate() }

    static func index(_ rip: UInt64) -> UInt64 { (rip ^ rip >> 12) & (entryCount - 1) }

    /// Of the table that translated code is to use.
    @inline(__always) func address(user: Bool) -> UInt64 {
        unsafe UInt64(UInt(bitPattern: entries + (user ? Int(Self.entryCount) : 0)))
    }

    @inline(__always) func insert(_ rip: UInt64, code: UInt64, stamp: UInt64, user: Bool) {
        var entry = Entry()
        entry.rip = rip
        entry.stamp = stamp
        entry.code = code
        unsafe entries[Int(Self.index(rip)) + (user ? Int(Self.entryCount) : 0)] = entry
    }
}
