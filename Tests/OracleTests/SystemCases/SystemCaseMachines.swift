// The two machines that run the driver of system cases: a backend, and QEMU's TCG.

import Foundation
import NVMM

enum SystemCaseError: Error, Equatable {
    /// The driver's image cannot be read.
    case noDriver(path: String)
    /// QEMU's memory could not be made or mapped.
    case noSharedMemory(errno: Int32)
    /// Nothing moves any more: the machine shut down, or the case never ends.
    case stuck(machine: String, case: Int)
    /// The run ended with an exit that no case can cause.
    case unexpectedExit(ExitReason, case: Int)
}

/// `driver.bin`, which nasm makes of `driver.asm`.
enum SystemCaseDriver {
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    static let name = "driver"

    static func load() throws(SystemCaseError) -> [UInt8] {
        let path = folder.appendingPathComponent(name + ".bin")
        guard let data = try? Data(contentsOf: path) else { throw .noDriver(path: path.lastPathComponent) }
        return [UInt8](data)
    }
}

/// The driver on a backend.
final class BackendCaseMachine {
    private let machine: any Machine
    private let vcpu: any VCPU
    private let ram: MemoryObject

    init(_ backend: any Backend, driver: [UInt8]) throws {
        let loaded = try LoadedImage(driver, on: backend)
        (machine, vcpu, ram) = (loaded.machine, loaded.vcpu, loaded.ram)
    }

    func run(_ pages: [[UInt8]]) throws -> [SystemResult] {
        for (index, page) in pages.enumerated() {
            try machine.write(ram, at: DriverMemory.cases + index * DriverMemory.pageBytes, bytes: page)
        }
        try machine.write(ram, at: DriverMemory.command, bytes: UInt64(pages.count).littleEndianBytes(2))
        var current = -1, idleRuns = 0
        while word(DriverMemory.command) != 0 {
            let result = try vcpu.run(budget: 100_000)
            let now = word(DriverMemory.current)
            idleRuns = now == current ? idleRuns + 1 : 0
            current = now
            switch result.exit.reason {
            case .none, .tprChanged: break
            case .io(let exit): try answer(exit)
            default: throw SystemCaseError.unexpectedExit(result.exit.reason, case: current)
            }
            // A case takes a few thousand instructions.
            if idleRuns > 10 { throw SystemCaseError.stuck(machine: "backend", case: current) }
        }
        return pages.indices.map { index in
            let start = DriverMemory.results + index * DriverMemory.pageBytes
            return SystemResult(bytes: ram.bytes(start..<start + CasePage.byteCount))
        }
    }

    private func word(_ address: Int) -> Int {
        ram.withBytes(address..<address + 8) { span -> Int in span.load(at: 0) }
    }

    /// No device has the ports that cases use, and what is read there is not compared.
    private func answer(_ exit: IOExit) throws {
        try vcpu.getState(.gprs)
        if exit.isInput, exit.operandBytes == 4 { vcpu.commPage.state[.rax] = 0 }
        vcpu.commPage.state[.rip] = exit.npc
        vcpu.setState(.gprs)
    }
}

/// The driver under `qemu-system-x86_64 -accel tcg`, its memory a file that the harness maps as well.
final class TCGCaseMachine {
    private let process: ChildProcess
    private let folder: URL
    private let ram: SharedFile
    private var pending = 0

    init(driver: [UInt8]) throws {
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("system-cases-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let romPath = folder.appendingPathComponent("jump.rom"), ramPath = folder.appendingPathComponent("ram")
        // The reset vector, 16 bytes below the end: JMP 0:7C00.
        var rom = [UInt8](repeating: 0xF4, count: 65536)
        rom.replaceSubrange(0xFFF0..<0xFFF5, with: [0xEA, 0x00, 0x7C, 0x00, 0x00])
        try Data(rom).write(to: romPath)
        ram = try SharedFile(path: ramPath.path, byteCount: DriverMemory.ramBytes)
        ram.write(driver, at: DriverMemory.loadAddress)
        process = try ChildProcess(
            TCGMachine.command(rom: romPath.path, options: ",memory-backend=ram") + [
                "-no-reboot", "-object",
                "memory-backend-file,id=ram,size=\(DriverMemory.ramBytes),share=on,mem-path=\(ramPath.path)",
            ])
    }

    deinit {
        process.end()
        try? FileManager.default.removeItem(at: folder)
    }

    /// Hands over cases, which then run beside the caller.
    func start(_ pages: [[UInt8]]) {
        for (index, page) in pages.enumerated() {
            ram.write(page, at: DriverMemory.cases + index * DriverMemory.pageBytes)
        }
        pending = pages.count
        ram.publish(UInt64(pages.count), at: DriverMemory.command)
    }

    /// Waits for the cases that ``start(_:)`` handed over.
    func finish() throws(SystemCaseError) -> [SystemResult] {
        var current: UInt64 = .max, idle = 0
        while ram.word(at: DriverMemory.command) != 0 {
            usleep(1000)
            let now = ram.word(at: DriverMemory.current)
            idle = now == current ? idle + 1 : 0
            current = now
            // Five seconds, and a busy machine's time on top: starting takes a part of the first one.
            if idle > 10_000 { throw .stuck(machine: "TCG", case: Int(current)) }
        }
        return (0..<pending).map { index in
            SystemResult(
                bytes: ram.read(DriverMemory.results + index * DriverMemory.pageBytes, count: CasePage.byteCount))
        }
    }
}
