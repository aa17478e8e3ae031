// A small i440FX PC: a client of NVMM's interface like any other, written to be read.

import Assists
public import NVMM

/// A PC on one machine of a backend.
///
/// Everything that it does is a function of its configuration and of what the machine's calls return: two runs
/// make the same calls in the same order.
public final class PC {
    let machine: any Machine
    let memory: PCMemory
    var processors: [Processor] = []
    let sliceInstructions: UInt64

    let interrupts = InterruptController8259()
    let ioAPIC = IOAPIC()
    let timer = IntervalTimer8254()
    let clock: RealTimeClock
    let keyboard = KeyboardController8042()
    let serial: Serial16550
    let disk: ATADisk
    let bus = PCIBus(functions: Chipset440FX.functions())
    var slots: [PCISlot] = []
    let power = PowerManagement()
    let firmware = FirmwareConfiguration()
    let debugOutput: (UInt8) -> Void
    var systemControl: UInt8 = 0x02
    var resetControl: UInt8 = 0

    /// Set once by whatever ends the machine's life.
    var ending: PCOutcome?
    var failure: VCPUError?
    var nextProcessor = 0
    /// Levels of the sixteen interrupt lines, one bit each.
    var lineLevels: UInt16 = 0
    /// Slices so far.
    var slices: UInt64 = 0
    private var tally = [UInt64](repeating: 0, count: ExitReason.names.count)

    /// Runs of VCPUs so far, early returns included.
    public internal(set) var steps: UInt64 = 0
    /// Instructions that all VCPUs have retired.
    public internal(set) var instructions: UInt64 = 0
    /// Exits so far by reason, named as ``ExitReason/name``. Runs that did not enter the guest count too.
    public var exitCounts: [String: UInt64] {
        var counts: [String: UInt64] = [:]
        for (index, entry) in ExitReason.names.enumerated() where tally[index] != 0 {
            counts[entry.name] = tally[index]
        }
        return counts
    }

    /// Content of the disk as it is now; empty where there is none.
    public var diskContent: [UInt8] { disk.content }

    public static let memoryBytesMinimum = 1 << 20
    public static let memoryBytesMaximum = 3 << 30
    public static let vcpusMaximum = 16
    static let firmwareBytesMaximum = 16 << 20
    static let diskBytesMaximum = 1 << 31

    /// - Parameter machine: one without memory or VCPUs.
    /// - Throws: ``PCError``: a configuration that cannot be, with its numbers, or a machine call that failed.
    public init(machine: any Machine, configuration: PCConfiguration) throws(PCError) {
        try Self.check(configuration)
        self.machine = machine
        sliceInstructions = configuration.sliceInstructions
        clock = RealTimeClock(startSeconds: configuration.startSeconds)
        serial = Serial16550(
            input: configuration.hasVirtioConsole ? [] : configuration.input, send: configuration.serialOutput)
        debugOutput = configuration.debugOutput
        disk = ATADisk(content: configuration.disk)
        do {
            var rom: [UInt8]?
            if case .firmware(let bytes) = configuration.image { rom = bytes }
            memory = try PCMemory(machine: machine, byteCount: configuration.memoryBytes, firmware: rom)
            for index in 0..<configuration.vcpuCount {
                let vcpu = try machine.createVCPU(id: UInt32(index))
                let apic = LocalAPIC(id: UInt8(index), isBootstrap: index == 0)
                processors.append(Processor(vcpu: vcpu, apic: apic, isBootstrap: index == 0))
            }
        } catch { throw .machine(error) }
        do {
            for processor in processors { try processor.vcpu.configure(.tpr(exitOnChange: true)) }
        } catch .unsupportedConfiguration {
            // The priority is then taken over at the next exit, whatever that is.
        } catch { throw .vcpu(error) }
        describe(configuration)
        addVirtioDevices(configuration)
        connect()
        if case .linux = configuration.image {
            bus.enablePowerManagement(at: ACPITables.powerManagementBase)
            power.enterACPIMode()
            placeSlots()
        }
        try GuestImage.load(
            configuration.image, memory: memory, bootstrap: processors[0].vcpu, vcpuCount: configuration.vcpuCount)
        if let error = memory.failure { throw .machine(error) }
    }

    private static func check(_ configuration: PCConfiguration) throws(PCError) {
        let bytes = configuration.memoryBytes
        guard bytes % pageBytes == 0, (memoryBytesMinimum...memoryBytesMaximum).contains(bytes) else {
            throw .memorySize(bytes, minimum: memoryBytesMinimum, maximum: memoryBytesMaximum)
        }
        guard (1...vcpusMaximum).contains(configuration.vcpuCount) else {
            throw .vcpuCount(configuration.vcpuCount, maximum: vcpusMaximum)
        }
        guard configuration.sliceInstructions > 0 else { throw .sliceInstructions(0) }
        for disk in [configuration.disk, configuration.virtioDisk] {
            guard let disk, disk.count > diskBytesMaximum else { continue }
            throw .diskSize(disk.count, maximum: diskBytesMaximum)
        }
        if case .firmware(let rom) = configuration.image {
            guard !rom.isEmpty else { throw .emptyImage }
            guard rom.count % pageBytes == 0, rom.count <= firmwareBytesMaximum else {
                throw .firmwareSize(rom.count, maximum: firmwareBytesMaximum)
            }
        }
    }

    /// What firmware reads about the machine: CMOS memory and fw_cfg.
    private func describe(_ configuration: PCConfiguration) {
        func byte(_ value: Int, _ shift: Int) -> UInt8 { UInt8(truncatingIfNeeded: value >> shift) }
        let bytes = configuration.memoryBytes
        let extendedKiB = min(max(bytes - 1 << 20, 0) >> 10, 0xFFFF)
        let above16MiB = min(max(bytes - 16 << 20, 0) >> 16, 0xFFFF)
        clock.set(0x14, 0x06)  // coprocessor and PS/2 mouse port, no floppy
        for (address, value) in [(0x15, 640), (0x17, extendedKiB), (0x30, extendedKiB), (0x34, above16MiB)] {
            clock.set(address, byte(value, 0))
            clock.set(address + 1, byte(value, 8))
        }
        clock.set(0x3D, 0x02)  // boots from the first hard disk
        clock.set(0x38, 0x01)  // no signature check of floppies
        clock.set(0x5F, byte(configuration.vcpuCount - 1, 0))
        if configuration.disk != nil { clock.set(0x39, disk.cylinders > 1024 ? 0x01 : 0x00) }

        func little(_ value: Int, _ count: Int) -> [UInt8] { .littleEndian(UInt64(value), count) }
        firmware.memory = memory
        firmware.set(FirmwareConfiguration.Item.memoryBytes, little(bytes, 8))
        firmware.set(FirmwareConfiguration.Item.processorCount, little(configuration.vcpuCount, 2))
        firmware.set(FirmwareConfiguration.Item.maximumProcessors, little(configuration.vcpuCount, 2))
        firmware.add(file: "etc/e820", little(0, 8) + little(bytes, 8) + little(1, 4))
        firmware.add(file: "etc/sercon-port", little(0x3F8, 8))
        if configuration.disk != nil {
            firmware.add(file: "bootorder", Array("/pci@i0cf8/ide@1,1/drive@0/disk@0\n".utf8) + [0])
        }
    }

    private func connect() {
        bus.onWrite = { [unowned self] place, offset in
            if place == Chipset440FX.hostBridge, (0x59...0x5F).contains(offset) {
                memory.setShadow(register: offset, bus.function(at: place)?.bytes[offset] ?? 0)
            }
            followSlots()
        }
        ioAPIC.send = { [unowned self] message in deliver(message, from: nil) }
    }

    func count(_ exit: VCPUExit) {
        let code = exit.reason.code
        if let index = ExitReason.names.firstIndex(where: { $0.code == code }) { tally[index] += 1 }
    }
}
