// What a PC is made of, how long it may run and how it ends.

public import NVMM

/// What a PC consists of. Every guest-visible fact follows from it.
public struct PCConfiguration {
    /// What the PC starts with.
    public enum Image {
        /// A BIOS image: at the top of 4 GiB, its last 128 KiB also below 1 MiB; entered by the reset vector.
        case firmware([UInt8])
        /// Raw bytes, entered in real mode at `loadAt` as segment 0000 (below 64 KiB) without any firmware.
        case flat([UInt8], loadAt: GPA = GPA(0x7C00))
        /// Multiboot 1, by its header: entered in 32-bit protected mode.
        case multiboot([UInt8])
        /// ELF: 32-bit files are entered in flat protected mode, 64-bit ones in long mode with the first 4 GiB mapped
        /// one to one.
        case elf([UInt8])
        /// A Linux kernel, entered by its 32-bit boot protocol, with ACPI tables instead of firmware.
        case linux(LinuxImage)
    }

    public var image: Image
    /// RAM in bytes: a multiple of ``pageBytes``, 1 MiB to 3 GiB.
    public var memoryBytes: Int
    /// 1...16.
    public var vcpuCount: Int
    /// Content of the primary master disk; nil for none.
    public var disk: [UInt8]?
    /// Content of a virtio disk; nil for none.
    public var virtioDisk: [UInt8]?
    public var hasVirtioConsole: Bool
    /// What is typed: on the virtio console where there is one, else on the serial port, as soon as the guest takes it.
    public var input: [UInt8]
    /// Instructions that a VCPU runs before the turn of another that can run: 1 or more. Each turn has up to 16 more,
    /// in a fixed sequence, so that no loop of a guest keeps step with them.
    public var sliceInstructions: UInt64
    /// The real-time clock's date at clock 0, in seconds since 1970-01-01 00:00 UTC, within 1970 to 9999.
    public var startSeconds: Int64
    /// Gets each byte that the guest sends on the serial port, or on the virtio console.
    public var serialOutput: (UInt8) -> Void
    /// Gets each byte that the guest writes to the debug console, port 0x402.
    public var debugOutput: (UInt8) -> Void

    public init(
        image: Image, memoryBytes: Int = 64 << 20, vcpuCount: Int = 1, disk: [UInt8]? = nil,
        virtioDisk: [UInt8]? = nil, hasVirtioConsole: Bool = false, input: [UInt8] = [],
        sliceInstructions: UInt64 = 10_000, startSeconds: Int64 = 1_735_689_600,
        serialOutput: @escaping (UInt8) -> Void = { _ in }, debugOutput: @escaping (UInt8) -> Void = { _ in }
    ) {
        self.image = image
        self.memoryBytes = memoryBytes
        self.vcpuCount = vcpuCount
        self.disk = disk
        self.virtioDisk = virtioDisk
        self.hasVirtioConsole = hasVirtioConsole
        self.input = input
        self.sliceInstructions = sliceInstructions
        self.startSeconds = startSeconds
        self.serialOutput = serialOutput
        self.debugOutput = debugOutput
    }
}

/// When a run of a PC ends although the guest goes on. nil is no limit.
public struct PCLimits: Sendable {
    /// Instructions of all VCPUs since the PC was made; met exactly.
    public var instructions: UInt64?
    /// Runs of VCPUs (and so exits) since the PC was made.
    public var steps: UInt64?
    public init(instructions: UInt64? = nil, steps: UInt64? = nil) {
        self.instructions = instructions
        self.steps = steps
    }
}

/// How a run of a PC ended.
public enum PCOutcome: Equatable, Sendable {
    /// The guest wrote `(status - 1) / 2` to the exit port 0xF4; `status` is what QEMU's `isa-debug-exit` makes of it.
    case exited(status: Int)
    /// Every VCPU waits and nothing will ever wake one.
    case haltedForever
    /// Triple fault.
    case shutdown(vcpu: UInt32)
    /// The guest reset the machine: keyboard controller, port 0x92 or 0xCF9.
    case resetRequested
    /// The guest switched the machine off by ACPI.
    case poweredOff
    case limitReached
    case cancelled
    /// An instruction on a device's memory that the assist does not emulate, or code outside memory.
    case emulationFailed(vcpu: UInt32, rip: UInt64, reason: String)
    /// The hypervisor gave up.
    case invalidExit(vcpu: UInt32, hardwareCode: UInt64)
}

/// Why a PC could not be built or could not go on.
public enum PCError: Error, Equatable, Sendable {
    /// Not a multiple of ``pageBytes`` or outside of the bounds, all in bytes.
    case memorySize(Int, minimum: Int, maximum: Int)
    case vcpuCount(Int, maximum: Int)
    case sliceInstructions(UInt64)
    case emptyImage
    /// Firmware must be a multiple of 4 KiB, at most `maximum` bytes.
    case firmwareSize(Int, maximum: Int)
    /// A flat image reaches from `gpa` into the video hole at 640 KiB; `maximum` bytes are before it.
    case flatImageTooLarge(gpa: GPA, byteCount: Int, maximum: Int)
    /// A segment of an ELF or multiboot image, from `gpa` on, does not lie in memory.
    case imageDoesNotFit(gpa: GPA, byteCount: Int, memoryBytes: Int)
    /// A flat image is entered at a segment of 64 KiB.
    case loadAddressTooHigh(GPA)
    case diskSize(Int, maximum: Int)
    /// No multiboot or ELF header, or one that contradicts itself; `offset` in bytes into the image.
    case badImageHeader(offset: Int)
    /// No setup header of a Linux kernel, or one that contradicts itself; `offset` in bytes into the image.
    case kernelHeader(offset: Int)
    /// A Linux kernel with a boot protocol before 2.12, as `version` has it: 0x020C.
    case kernelProtocol(version: UInt16)
    /// An ELF file that names no entry for PVH (`XEN_ELFNOTE_PHYS32_ENTRY`).
    case noPVHEntry
    /// A kernel's command line, in bytes.
    case commandLineTooLong(Int, maximum: Int)
    /// An initial RAM disk has no room above the kernel and below what the kernel reads.
    case initrdDoesNotFit(byteCount: Int, memoryBytes: Int)
    /// An ELF file none of whose program headers is to be loaded.
    case noLoadableSegment
    /// An ELF of another machine (e_machine) or class.
    case unsupportedELF(machine: UInt16)
    case machine(MachineError)
    case vcpu(VCPUError)
}
