// QEMU's TCG as a machine that runs an image and stops where it is told: `qemu-system-x86_64` with its gdb stub.

import Foundation

/// Registers at a stop, by the names of the stub's target description, with those of ``SystemState``.
typealias RegisterValues = [String: UInt64]

/// A QEMU process with one VCPU and 16 MiB of RAM, no devices that interrupt.
final class TCGMachine {
    /// Where the executable is; nil where QEMU is not installed.
    static let executable: String? = ["/usr/bin/qemu-system-x86_64", "/usr/local/bin/qemu-system-x86_64"]
        .first { FileManager.default.isExecutableFile(atPath: $0) }

    /// What starts QEMU with the processor that the images are held against, 16 MiB of RAM and no device.
    ///
    /// - Parameter options: of the machine, beyond what is switched off.
    static func command(rom: String, options: String = "") -> [String] {
        [
            executable ?? "", "-M", "microvm,pic=off,pit=off,rtc=off,isa-serial=off" + options, "-bios", rom,
            "-nodefaults", "-accel", "tcg", "-cpu", "max,vendor=GenuineIntel", "-m", "16M", "-display", "none",
        ]
    }

    private let process: ChildProcess
    private let folder: URL
    private let gdb: GDBClient
    /// Name and bytes of every register in the order of the stub's `g` packet.
    private let layout: [(name: String, bytes: Int)]

    /// Starts QEMU, stopped, with `image` in RAM at `address`.
    init(image: [UInt8], address: UInt64) throws {
        folder = FileManager.default.temporaryDirectory
            .appendingPathComponent(
                "oracle-\(ProcessInfo.processInfo.processIdentifier)-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let imagePath = folder.appendingPathComponent("image.bin"), romPath = folder.appendingPathComponent("empty.rom")
        try Data(image).write(to: imagePath)
        // The machine insists on firmware; this one is never entered.
        try Data(count: 65536).write(to: romPath)
        let socketPath = folder.appendingPathComponent("gdb").path
        process = try ChildProcess(
            Self.command(rom: romPath.path) + [
                "-S", "-gdb", "unix:\(socketPath),server,nowait",
                "-device", "loader,file=\(imagePath.path),addr=0x\(String(address, radix: 16)),force-raw=on",
            ])
        var connected: GDBClient?
        for _ in 0..<200 where connected == nil {
            connected = try? GDBClient(path: socketPath)
            if connected == nil { usleep(20_000) }
        }
        guard let connected else { throw GDBError.timeout }
        gdb = connected
        layout = try Self.registerLayout(gdb)
        // Memory packets then take physical addresses, whatever the paging mode of the moment.
        try gdb.order("Qqemu.PhyMemMode:1")
    }

    deinit {
        process.end()
        try? FileManager.default.removeItem(at: folder)
    }

    private static func registerLayout(_ gdb: GDBClient) throws(GDBError) -> [(name: String, bytes: Int)] {
        _ = try gdb.ask("qSupported:xmlRegisters=i386")
        var text = ""
        let name = "i386-64bit.xml"
        while true {
            let part = try gdb.ask("qXfer:features:read:\(name):\(String(text.utf8.count, radix: 16)),ffb")
            text += part.dropFirst()
            guard part.hasPrefix("m") else { break }
        }
        // The description carries registers in comments that the stub does not have.
        while let start = text.range(of: "<!--"),
            let end = text.range(of: "-->", range: start.upperBound..<text.endIndex)
        {
            text.removeSubrange(start.lowerBound..<end.upperBound)
        }
        return text.split(separator: "<reg ").dropFirst().compactMap { element in
            func attribute(_ name: String) -> Substring? {
                guard let range = element.range(of: name + "=\"") else { return nil }
                return element[range.upperBound...].prefix { $0 != "\"" }
            }
            guard let register = attribute("name"), let bits = attribute("bitsize").flatMap({ Int($0) }) else {
                return nil
            }
            return (String(register), bits / 8)
        }
    }

    func registers() throws(GDBError) -> RegisterValues {
        let bytes = HexBytes.decode(try gdb.ask("g"))
        var values: RegisterValues = [:]
        var place = 0
        for register in layout {
            guard place + register.bytes <= bytes.count else { break }
            if register.bytes <= 8 {
                values[register.name] = bytes[place..<place + register.bytes].littleEndian
            }
            place += register.bytes
        }
        return values
    }

    func set(_ name: String, _ value: UInt64) throws(GDBError) {
        guard let number = layout.firstIndex(where: { $0.name == name }) else {
            throw .unexpected(command: "P \(name)", answer: "no such register")
        }
        try gdb.order("P\(String(number, radix: 16))=" + HexBytes.encode(value, bytes: layout[number].bytes))
    }

    func memory(at address: UInt64, count: Int) throws(GDBError) -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            let part = min(count - bytes.count, 0x700)
            let answer = try gdb.ask("m\(String(address + UInt64(bytes.count), radix: 16)),\(String(part, radix: 16))")
            guard answer.utf8.count == part * 2 else {
                throw .unexpected(command: "m \(address)", answer: answer)
            }
            bytes += HexBytes.decode(answer)
        }
        return bytes
    }

    func setBreakpoint(_ linear: UInt64) throws(GDBError) { try gdb.order("Z0,\(String(linear, radix: 16)),1") }

    /// Runs to the next breakpoint.
    ///
    /// - Throws: ``GDBError/timeout`` where none is met in time, after which the machine is of no more use.
    func run(timeoutMilliseconds: Int32 = 5000) throws(GDBError) {
        let answer = try gdb.ask("c", timeoutMilliseconds: timeoutMilliseconds)
        guard answer.hasPrefix("T05") || answer.hasPrefix("S05") else {
            throw .unexpected(command: "c", answer: answer)
        }
    }

    func step() throws(GDBError) {
        let answer = try gdb.ask("s")
        guard answer.hasPrefix("T05") || answer.hasPrefix("S05") else {
            throw .unexpected(command: "s", answer: answer)
        }
    }
}
