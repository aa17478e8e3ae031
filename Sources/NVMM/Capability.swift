// What a backend offers: `struct nvmm_capability`, and the two things our backends say beyond it.

/// Limits and abilities of a backend.
public struct Capability: Hashable, Sendable {
    /// API revision of the kernel side; 2 is lineage v2.
    public var version: UInt32
    /// Bytes of ``VCPUState``: 1008.
    public var stateBytes: UInt32
    public var machinesMax: UInt32
    public var vcpusMax: UInt32
    /// Bytes of guest memory that one machine may have.
    public var memoryBytesMax: UInt64
    /// Bits of XCR0 that a guest may set.
    public var xcr0Mask: UInt64
    public var mxcsrMask: UInt32
    /// CPUID leaves that can be configured for one VCPU.
    public var cpuidEntriesMax: UInt32
    /// ``VCPUConfiguration/tpr(exitOnChange:)`` is supported.
    public var offersTPRExits: Bool
    /// ``VCPU/run(budget:)`` honours its budget to the instruction, and ``RunResult/retired`` is exact.
    public var countsInstructions: Bool

    public init(
        version: UInt32 = 2, stateBytes: UInt32 = 1008, machinesMax: UInt32 = 128, vcpusMax: UInt32 = 128,
        memoryBytesMax: UInt64 = 128 << 30, xcr0Mask: UInt64 = 0x3, mxcsrMask: UInt32 = 0xFFFF,
        cpuidEntriesMax: UInt32 = 32, offersTPRExits: Bool = true, countsInstructions: Bool
    ) {
        self.version = version
        self.stateBytes = stateBytes
        self.machinesMax = machinesMax
        self.vcpusMax = vcpusMax
        self.memoryBytesMax = memoryBytesMax
        self.xcr0Mask = xcr0Mask
        self.mxcsrMask = mxcsrMask
        self.cpuidEntriesMax = cpuidEntriesMax
        self.offersTPRExits = offersTPRExits
        self.countsInstructions = countsInstructions
    }
}

/// The four registers that CPUID returns.
public struct CPUIDRegisters: Hashable, Sendable {
    public var eax, ebx, ecx, edx: UInt32
    public init(eax: UInt32 = 0, ebx: UInt32 = 0, ecx: UInt32 = 0, edx: UInt32 = 0) {
        self.eax = eax
        self.ebx = ebx
        self.ecx = ecx
        self.edx = edx
    }
}

extension CPUIDRegisters {
    /// The result of ``CPUIDRule/mask(set:delete:)``.
    public func masked(set: CPUIDRegisters, delete: CPUIDRegisters) -> CPUIDRegisters {
        CPUIDRegisters(
            eax: eax & ~delete.eax | set.eax, ebx: ebx & ~delete.ebx | set.ebx, ecx: ecx & ~delete.ecx | set.ecx,
            edx: edx & ~delete.edx | set.edx)
    }
}

extension CPUIDEntry {
    /// Whether the answer for a leaf depends on ECX, which elsewhere holds anything (SDM vol. 2, CPUID).
    public static func hasSubleaves(_ leaf: UInt32) -> Bool { [0x4, 0x7, 0xB, 0xD, 0x8000_001D].contains(leaf) }
}

extension CPUIDRule {
    /// - Throws: ``VCPUError/contradictoryCPUIDMask(leaf:)``.
    public func check(leaf: UInt32) throws(VCPUError) {
        guard case .mask(let set, let delete) = self else { return }
        guard set.eax & delete.eax | set.ebx & delete.ebx | set.ecx & delete.ecx | set.edx & delete.edx == 0 else {
            throw .contradictoryCPUIDMask(leaf: leaf)
        }
    }
}

/// What to do with one CPUID leaf (`struct nvmm_vcpu_conf_cpuid`; the key is the leaf alone, no subleaf).
public enum CPUIDRule: Hashable, Sendable {
    /// Result = (value and not `delete`) or `set`, applied after the backend's own filter.
    case mask(set: CPUIDRegisters, delete: CPUIDRegisters)
    /// Exit to the VMM, registers already holding the default result.
    case exit
    /// Forget the rule for this leaf.
    case remove
}

/// `nvmm_vcpu_configure`: `NVMM_VCPU_CONF_CPUID` and `NVMM_VCPU_CONF_TPR`.
public enum VCPUConfiguration: Hashable, Sendable {
    case cpuid(leaf: UInt32, CPUIDRule)
    case tpr(exitOnChange: Bool)
}
