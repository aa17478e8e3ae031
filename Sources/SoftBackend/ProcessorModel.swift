// The processor that guests see: a fixed, versioned table, never the host's.

public import NVMM

/// A processor model: what CPUID offers is what the interpreter executes, no more and no less.
public final class ProcessorModel: Sendable {
    /// Name with version, as it stands in traces.
    public let name: String
    let table: [CPUIDEntry]
    let offers1GiBPages: Bool
    /// AF after a shift is undefined: AMD's processors set it, Intel's clear it.
    let setsAuxiliaryByShifts: Bool
    /// Whether CPUID names Intel: where SDM leaves room and Intel's processors agree with each other, that is done.
    /// Each such place says so; all else, and every other vendor, does what AMD's processors do.
    let isIntel: Bool
    /// Bits of XCR0 that a guest may set.
    let stateComponents: UInt64
    /// Bits of CR4 that a guest may set.
    let cr4Mask: UInt64
    private let decoders: [Decoder]

    init(name: String, table: [CPUIDEntry], offers1GiBPages: Bool, setsAuxiliaryByShifts: Bool = false) {
        self.name = name
        self.table = table
        self.offers1GiBPages = offers1GiBPages
        self.setsAuxiliaryByShifts = setsAuxiliaryByShifts
        isIntel = Self.vendor(of: table, is: "GenuineIntel")
        let extensions = InstructionExtensions(offeredBy: table)
        stateComponents = extensions.contains(.avx) ? StateComponent.legacy | StateComponent.avx : StateComponent.legacy
        cr4Mask =
            CR4.tsd | CR4.de | CR4.pse | CR4.pae | CR4.mce | CR4.pge | CR4.osfxsr | CR4.osxmmexcpt | CR4.smep | CR4.smap
            | (extensions.contains(.fsgsbase) ? CR4.fsgsbase : 0) | (extensions.contains(.xsave) ? CR4.osxsave : 0)
        decoders = [1, 2, 3].map { Decoder(codeWidth: $0, extensions: extensions) }
    }

    func decoder(codeWidth: UInt8) -> Decoder { decoders[Int(max(codeWidth, 1) & 3) - 1] }

    /// All models, the default first.
    public static let all: [ProcessorModel] = [base, baseV2, baseV3, baseV4, baseV5, baseV6]

    /// The base model behind another processor's CPUID: what a recording's guest was told. Offers there that the
    /// interpreter does not execute raise #UD.
    ///
    /// - Parameter setsAuxiliaryByShifts: AF as that processor leaves it, which no manual says.
    public static func presenting(
        _ table: [CPUIDEntry], name: String, setsAuxiliaryByShifts: Bool
    ) -> ProcessorModel {
        ProcessorModel(
            name: name, table: table, offers1GiBPages: true, setsAuxiliaryByShifts: setsAuxiliaryByShifts)
    }

    /// This model under another vendor's name, which decides where processors differ and may.
    ///
    /// - Parameter vendor: 12 characters of ASCII, as CPUID's leaf 0 has them in EBX, EDX and ECX (SDM vol. 2, CPUID).
    public func ofVendor(_ vendor: String) -> ProcessorModel {
        let entries = table.map { entry in
            guard entry.leaf == 0 else { return entry }
            var named = entry
            named.registers.ebx = Self.ascii(vendor, at: 0)
            named.registers.edx = Self.ascii(vendor, at: 4)
            named.registers.ecx = Self.ascii(vendor, at: 8)
            return named
        }
        return ProcessorModel(
            name: name, table: entries, offers1GiBPages: offers1GiBPages, setsAuxiliaryByShifts: setsAuxiliaryByShifts)
    }

    public static func named(_ name: String) -> ProcessorModel? { all.first { $0.name == name } }

    /// The base 64-bit instruction set without floating point: integer, system, FXSAVE.
    public static let base = ProcessorModel(name: "base-v1", table: baseTable, offers1GiBPages: true)

    /// `base-v1` with MOVBE, POPCNT, LZCNT, BMI1, BMI2, ADX and FSGSBASE.
    public static let baseV2 = ProcessorModel(name: "base-v2", table: baseV2Table, offers1GiBPages: true)
}

extension ProcessorModel {
    /// `base-v2` with x87, MMX, SSE to SSE4.2, AES and PCLMULQDQ: level x86-64-v2 of the psABI, and more.
    public static let baseV3 = ProcessorModel(name: "base-v3", table: baseV3Table, offers1GiBPages: true)

    private static let baseV3Table = extending(baseV2Table, as: "base-v3") { entry in
        switch entry.leaf {
        case 1:
            entry.registers.edx |= 1 << 0 | 1 << 23 | 1 << 25 | 1 << 26  // FPU, MMX, SSE, SSE2
            // SSE3, PCLMULQDQ, SSSE3, SSE4.1, SSE4.2, AES
            entry.registers.ecx |= 1 << 0 | 1 << 1 | 1 << 9 | 1 << 19 | 1 << 20 | 1 << 25
        // Of the last x87 instruction there are no selectors, and no data pointer where it raised nothing.
        case 7: entry.registers.ebx |= 1 << 6 | 1 << 13
        default: break
        }
    }
}

extension ProcessorModel {
    /// `base-v3` with SHA and INVPCID.
    public static let baseV4 = ProcessorModel(name: "base-v4", table: baseV4Table, offers1GiBPages: true)

    private static let baseV4Table = extending(baseV3Table, as: "base-v4") { entry in
        switch entry.leaf {
        case 7: entry.registers.ebx |= 1 << 10 | 1 << 29  // INVPCID, SHA
        default: break
        }
    }
}

extension ProcessorModel {
    /// `base-v4` with XSAVE for x87 and SSE, which is what NVMM has of it.
    public static let baseV5 = ProcessorModel(name: "base-v5", table: baseV5Table, offers1GiBPages: true)

    private static let baseV5Table = extending(baseV4Table, as: "base-v5") { entry in
        switch entry.leaf {
        case 1: entry.registers.ecx |= 1 << 26  // XSAVE
        // The components, and the area's bytes: no others can be enabled.
        case 0xD where entry.subleaf == 0: entry.registers = CPUIDRegisters(eax: 3, ebx: 576, ecx: 576)
        default: break
        }
    }
}

extension ProcessorModel {
    /// `base-v5` with AVX and AVX2. NVMM has no state for the upper halves of their registers: its clients neither see
    /// nor set them, and a trace has them in keyframes alone.
    public static let baseV6 = ProcessorModel(name: "base-v6", table: baseV6Table, offers1GiBPages: true)

    private static let baseV6Table: [CPUIDEntry] = {
        let all = StateComponent.legacy | StateComponent.avx
        let avxBytes = UInt32(ExtendedArea.byteCount(of: all) - ExtendedArea.avx)
        var table = extending(baseV5Table, as: "base-v6") { entry in
            switch entry.leaf {
            case 1: entry.registers.ecx |= 1 << 28  // AVX
            case 7: entry.registers.ebx |= 1 << 5  // AVX2
            // EBX says what XCR0 has switched on: CPU+CPUID.swift.
            case 0xD:
                entry.registers.eax = UInt32(all)
                entry.registers.ecx += avxBytes
            default: break
            }
        }
        if let place = table.firstIndex(where: { $0.leaf == 0xD }) {
            let component = CPUIDRegisters(eax: avxBytes, ebx: UInt32(ExtendedArea.avx))
            table.insert(CPUIDEntry(leaf: 0xD, subleaf: 2, registers: component), at: place + 1)
        }
        return table
    }()
}

// MARK: - CPUID

extension ProcessorModel {
    /// What CPUID returns. A leaf beyond the largest basic one gives that one's data, as Intel's processors and NVMM do
    /// it; AMD's give zeros.
    func registers(leaf: UInt32, subleaf: UInt32) -> CPUIDRegisters {
        let isBasic = leaf < 0x4000_0000 && !Self.vendor(of: table, is: "AuthenticAMD")
        let known = table.last { isBasic && $0.leaf < 0x4000_0000 }?.leaf ?? 0
        let effective = isBasic && leaf > known ? known : leaf
        let part = CPUIDEntry.hasSubleaves(effective) ? subleaf : 0
        return table.first { $0.leaf == effective && $0.subleaf == part }?.registers ?? CPUIDRegisters()
    }

    /// SDM vol. 2, CPUID, leaf 0: the vendor's name in EBX, EDX, ECX.
    private static func vendor(of table: [CPUIDEntry], is name: String) -> Bool {
        guard let entry = table.first(where: { $0.leaf == 0 }) else { return false }
        let registers = entry.registers
        return [registers.ebx, registers.edx, registers.ecx] == [0, 4, 8].map { ascii(name, at: $0) }
    }

    private static func ascii(_ text: String, at offset: Int) -> UInt32 {
        var word: UInt32 = 0
        for (index, byte) in text.utf8.dropFirst(offset).prefix(4).enumerated() {
            word |= UInt32(byte) << (UInt32(index) * 8)
        }
        return word
    }

    /// One of the three leaves of the brand string.
    private static func brand(_ text: String, part: Int) -> CPUIDRegisters {
        let words = (0..<4).map { ascii(text, at: part * 16 + $0 * 4) }
        return CPUIDRegisters(eax: words[0], ebx: words[1], ecx: words[2], edx: words[3])
    }

    /// A table with another model's name in its brand string, and what `change` makes of the other entries.
    private static func extending(
        _ table: [CPUIDEntry], as name: String, _ change: (inout CPUIDEntry) -> Void
    ) -> [CPUIDEntry] {
        table.map { entry in
            var entry = entry
            if 0x8000_0002...0x8000_0004 ~= entry.leaf {
                entry.registers = brand("exit-tracer \(name) at 1 GHz", part: Int(entry.leaf - 0x8000_0002))
            } else {
                change(&entry)
            }
            return entry
        }
    }

    private static let baseV2Table = baseTable.map { entry in
        var entry = entry
        switch entry.leaf {
        case 1: entry.registers.ecx |= 1 << 22 | 1 << 23  // MOVBE, POPCNT
        case 7: entry.registers.ebx |= 1 << 0 | 1 << 3 | 1 << 8 | 1 << 19  // FSGSBASE, BMI1, BMI2, ADX
        case 0x8000_0001: entry.registers.ecx |= 1 << 5  // LZCNT
        default: break
        }
        return entry
    }

    /// NVMM's masks (nvmm_x86.c) combined with what this interpreter executes; bits: SDM vol. 2, CPUID.
    private static let baseTable: [CPUIDEntry] = {
        let vendor = "ExitTracerVM"
        let signature: UInt32 = 0x600  // family 6, as RDX after RESET says
        let features1C: UInt32 = 1 << 13 | 1 << 31  // CMPXCHG16B, hypervisor
        var features1D: UInt32 = 0
        for bit: UInt32 in [2, 3, 4, 5, 6, 8, 9, 11, 13, 15, 16, 17, 24] {
            // DE PSE TSC MSR PAE CX8 APIC SEP PGE CMOV PAT PSE-36 FXSR
            features1D |= 1 << bit
        }
        let features7B: UInt32 = 1 << 7 | 1 << 20  // SMEP, SMAP
        let features81D: UInt32 = 1 << 11 | 1 << 20 | 1 << 26 | 1 << 29  // SYSCALL, NX, 1 GiB pages, long mode
        var table = [
            CPUIDEntry(
                leaf: 0,
                registers: CPUIDRegisters(
                    eax: 0xD, ebx: ascii(vendor, at: 0), ecx: ascii(vendor, at: 8), edx: ascii(vendor, at: 4))),
            CPUIDEntry(leaf: 1, registers: CPUIDRegisters(eax: signature, ecx: features1C, edx: features1D)),
            CPUIDEntry(leaf: 7, registers: CPUIDRegisters(ebx: features7B)),
            CPUIDEntry(leaf: 0xD, registers: CPUIDRegisters()),
            CPUIDEntry(
                leaf: 0x4000_0000,
                registers: CPUIDRegisters(
                    eax: 0x4000_0010, ebx: ascii("___ ", at: 0), ecx: ascii("NVMM", at: 0), edx: ascii(" ___", at: 0))),
            CPUIDEntry(leaf: 0x4000_0010, registers: CPUIDRegisters(eax: 1_000_000)),  // TSC, kHz
            CPUIDEntry(leaf: 0x8000_0000, registers: CPUIDRegisters(eax: 0x8000_0008)),
            CPUIDEntry(leaf: 0x8000_0001, registers: CPUIDRegisters(ecx: 1, edx: features81D)),  // LAHF in 64-bit mode
        ]
        for part in 0..<3 {
            table.append(
                CPUIDEntry(
                    leaf: 0x8000_0002 + UInt32(part),
                    registers: brand("exit-tracer base-v1 at 1 GHz", part: part)))
        }
        table.append(CPUIDEntry(leaf: 0x8000_0007, registers: CPUIDRegisters(edx: 1 << 8)))  // invariant TSC
        // Physical addresses of 40 bits, linear ones of 48: see CPU+Paging.swift.
        table.append(CPUIDEntry(leaf: 0x8000_0008, registers: CPUIDRegisters(eax: 0x3028)))
        return table
    }()
}
