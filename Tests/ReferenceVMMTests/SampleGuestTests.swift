// The sample guests print what they print under QEMU's TCG, and a run is a function of its configuration.

import NVMM
import ReferenceVMM
import TestSupport
import Testing

@Suite struct SampleGuestTests {
    @Test func `hello says so in real mode`() throws {
        let run = try SampleGuest.run(PCConfiguration(image: .flat(try SampleGuest.image("hello"))))
        #expect(run.serial == "Hello from real mode\n")
        #expect(run.outcome == .exited(status: 1))
        #expect(run.exitCounts == ["IO": 22])
    }

    @Test func `code that changes itself is executed as changed`() throws {
        let run = try SampleGuest.run(PCConfiguration(image: .flat(try SampleGuest.image("selfmod"))))
        #expect(run.serial == "AabcdeRXO\n" || run.serial == "AabcdeRXO")
        #expect(run.outcome == .exited(status: 1))
    }

    @Test func `the guest that reads times sees them grow`() throws {
        let run = try SampleGuest.run(PCConfiguration(image: .flat(try SampleGuest.image("timestamps"))))
        #expect(run.serial == "time passed\n")
        #expect(run.outcome == .exited(status: 1))
    }

    @Test func `the long-mode guest sees its ticks and its page faults`() throws {
        let run = try SampleGuest.run(PCConfiguration(image: .flat(try SampleGuest.image("longmode"))))
        let expected = """
            64-bit mode
            five ticks
            #PF at 0000000000400010
              error 0000000000000000
            mapped and read: 0000000000001234
            #PF at 0000000000400018
              error 0000000000000003
            #PF at 0000000000800000
              error 0000000000000000
            faults: 0000000000000003
            dirty: 0000000000006000

            """
        #expect(run.serial == expected)
        #expect(run.outcome == .exited(status: 1))
        #expect(run.exitCounts["HALTED"] == 5)
        #expect(run.clock > 5_000_000, "five milliseconds were waited for")
        #expect(run.instructions < 20_000, "and not executed")
    }

    @Test func `the exerciser's sums are those of TCG`() throws {
        let run = try SampleGuest.run(PCConfiguration(image: .flat(try SampleGuest.image("exerciser"))))
        let expected = """
            exerciser
            00000000fee00900
            0000000000000500
            0000456789abcdef
            0000000000000210
            00000000000001ff
            0000000000010020
            0000000000030031
            0000000000030031
            0000000000010078
            0000000000010079
            0000000000010055
            written by one REP OUTSB, longer than the batch of 32 bytes
            written backwards
            5a5a5a5a5a5a5a5a
            0000000012378086
            00000000ffff1237
            00000000ffffff80
            00000000d8ac14f0
            00000000000000ff

            """
        #expect(run.serial == expected)
        #expect(run.outcome == .exited(status: 1))
    }

    @Test func `two processors count together under their lock`() throws {
        let image = try SampleGuest.image("twocpus")
        let run = try SampleGuest.run(PCConfiguration(image: .flat(image), vcpuCount: 2))
        #expect(run.serial == "two processors\ncounted: 00000000000007d0\n")
        #expect(run.outcome == .exited(status: 1))
        // Slices shorter than the lock is held interleave more, and count the same.
        let fine = try SampleGuest.run(PCConfiguration(image: .flat(image), vcpuCount: 2, sliceInstructions: 13))
        #expect(fine.serial == run.serial)
        #expect(fine.steps > run.steps)
    }

    @Test func `one processor alone says that the second did not come`() throws {
        let run = try SampleGuest.run(PCConfiguration(image: .flat(try SampleGuest.image("twocpus"))))
        #expect(run.serial == "two processors\nthe second did not come\n")
        #expect(run.outcome == .exited(status: 5))
    }

    @Test func `the benchmark guest makes 100,000 exits and its sum is that of TCG`() throws {
        let run = try SampleGuest.run(PCConfiguration(image: .flat(try SampleGuest.image("exits"))))
        #expect(run.serial == "exits\nsum: 000000026e95528a\n")
        #expect(run.steps >= 100_000)
        #expect(run.exitCounts["RDMSR"] == 10_000)
        #expect(run.exitCounts["WRMSR"] == 10_000)
        #expect(run.exitCounts["HALTED"] == 1250)
    }

    @Test(arguments: ["hello", "selfmod", "longmode", "exerciser", "timestamps", "twocpus"])
    func `the same guest twice makes the same steps`(name: String) throws {
        let configuration = PCConfiguration(image: .flat(try SampleGuest.image(name)), vcpuCount: 2)
        #expect(try SampleGuest.run(configuration) == SampleGuest.run(configuration))
    }

    @Test func `a limit of instructions is met exactly, and the run goes on after it`() throws {
        let image = try SampleGuest.image("longmode")
        let whole = try SampleGuest.run(PCConfiguration(image: .flat(image)))
        let part = try SampleGuest.run(PCConfiguration(image: .flat(image)), limits: PCLimits(instructions: 777))
        #expect(part.outcome == .limitReached)
        #expect(part.instructions == 777)
        #expect(whole.serial.hasPrefix(part.serial))
    }
}

@Suite struct FirmwareTests {
    static let firmware = "/usr/share/seabios/bios.bin"

    @Test(.requires(.file(firmware)))
    func `SeaBIOS boots the sample disk, which reads, prints and writes through it`() throws {
        let configuration = PCConfiguration(
            image: .firmware(try SampleGuest.contents(Self.firmware)), vcpuCount: 2,
            disk: try SampleGuest.image("bootdisk"))
        let run = try SampleGuest.run(configuration)
        #expect(run.outcome == .exited(status: 1))
        #expect(run.debug.contains("Found 2 cpu(s) max supported 2 cpu(s)"))
        #expect(run.debug.contains("Booting from 0000:7c00"))
        for line in ["boot sector", "second part by CHS", "027f", "written and read back"] {
            #expect(run.serial.contains(line))
        }
        // The sector that the guest wrote: 0x1234, then 0x0307 more for every word.
        let sector = run.disk[101 * 512..<102 * 512]
        let expected = (0..<256).flatMap { index in
            let word = UInt16(truncatingIfNeeded: 0x1234 + index * 0x0307)
            return [UInt8(word & 0xFF), UInt8(word >> 8)]
        }
        #expect(Array(sector) == expected)
    }
}
