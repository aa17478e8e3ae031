// The TCG side by itself: the client speaks the protocol, each image runs to its end.

import Foundation
import Testing

@Suite(.serialized) struct TCGSelfTests {
    static let hasQEMU = TCGMachine.executable != nil

    @Test(.enabled(if: hasQEMU, "qemu-system-x86_64 is not installed"))
    func `the gdb client reads and sets registers and memory, steps and stops`() throws {
        // MOV AX, 1234h; MOV SS, AX; HLT
        let machine = try TCGMachine(image: [0xB8, 0x34, 0x12, 0x8E, 0xD0, 0xF4], address: 0x7C00)
        try machine.set("cs", 0)
        try machine.set("rip", 0x7C00)
        #expect(try machine.memory(at: 0x7C00, count: 6) == [0xB8, 0x34, 0x12, 0x8E, 0xD0, 0xF4])
        try machine.step()
        #expect(try machine.registers()["rip"] == 0x7C03)
        #expect(try machine.registers()["rax"] == 0x1234)
        try machine.setBreakpoint(0x7C05)
        try machine.run()
        let registers = try machine.registers()
        #expect(registers["rip"] == 0x7C05)
        #expect(registers["ss"] == 0x1234)
        #expect(registers["cr0"] == 0x6000_0010)
        #expect(registers["efer"] == 0)
    }

    @Test(.enabled(if: hasQEMU, "qemu-system-x86_64 is not installed"), arguments: SystemImage.names)
    func `each image runs to its end on TCG`(name: String) throws {
        let image = try SystemImage(name)
        let points = try ImageRunner.runOnTCG(image)
        #expect(points.last?.name == "end")
        // Every stop point but those in handlers that must not be reached is met.
        let met = Set(points.map(\.name))
        let missed = image.stops.map(\.name).filter { !met.contains($0) && !$0.hasPrefix("unexpected") }
        #expect(missed.isEmpty, "not met: \(missed)")
        #expect(!points.contains { $0.name.hasPrefix("unexpected") }, "\(points.map(\.name))")
    }

    @Test func `each built image is its source, assembled`() throws {
        guard let nasm = ["/usr/bin/nasm", "/usr/local/bin/nasm"].first(where: FileManager.default.isExecutableFile)
        else {
            print("skipped: nasm is not installed, images are taken as committed")
            return
        }
        let images = SystemImage.names.map { (SystemImage.folder, $0) }
        for (folder, name) in images + [(SystemCaseDriver.folder, SystemCaseDriver.name)] {
            let output = FileManager.default.temporaryDirectory.appendingPathComponent(
                "\(name)-\(UUID().uuidString).bin")
            defer { try? FileManager.default.removeItem(at: output) }
            let source = folder.appendingPathComponent(name + ".asm").path
            let process = try ChildProcess([nasm, "-f", "bin", "-I", folder.path + "/", source, "-o", output.path])
            #expect(process.wait() == 0)
            let built = try Data(contentsOf: output)
            let committed = try Data(contentsOf: folder.appendingPathComponent(name + ".bin"))
            #expect(built == committed, "\(name).bin is not what nasm makes of \(name).asm")
        }
    }
}
