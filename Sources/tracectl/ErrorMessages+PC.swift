// Sentences for PCs that cannot be built or cannot go on.

import NVMM
import ReferenceVMM

func sentence(for error: PCError) -> String {
    switch error {
    case .memorySize(let bytes, let minimum, let maximum):
        "\(grouped(bytes)) bytes of memory cannot be: use --memory with \(sized(minimum)) to \(sized(maximum)),"
            + " in whole pages"
    case .vcpuCount(let count, let maximum): "\(count) VCPUs cannot be: use --cpus with 1 to \(maximum)"
    case .sliceInstructions(let count): "a slice of \(count) instructions cannot be"
    case .emptyImage: "is empty: give an image"
    case .firmwareSize(let bytes, let maximum):
        "has \(grouped(bytes)) bytes, and firmware is a multiple of 4 KiB, at most \(sized(maximum)):"
            + " use --guest for other images"
    case .imageDoesNotFit(let gpa, let byteCount, let memoryBytes):
        "does not fit: its \(counted(byteCount, "byte")) at gpa \(hex(gpa.rawValue)) do not lie in memory"
            + " (\(sized(memoryBytes)), less 0xa0000 to 0xbffff): use a larger --memory, or link it for another address"
    case .flatImageTooLarge(let gpa, let byteCount, let maximum):
        "has \(counted(byteCount, "byte")), and a flat image at gpa \(hex(gpa.rawValue)) has room for"
            + " \(grouped(maximum)), up to 640 KiB: use a smaller one,"
            + " or an ELF or multiboot image, which may lie above 1 MiB"
    case .noLoadableSegment:
        "is an ELF file without a segment to load, such as an object file: link it to an executable"
    case .loadAddressTooHigh(let gpa):
        "a flat image cannot be entered at \(hex(gpa.rawValue)): use a --load-at below 64 KiB"
    case .diskSize(let bytes, let maximum): "the disk has \(sized(bytes)), and at most \(sized(maximum)) can be"
    case .badImageHeader(let offset):
        "is an ELF or multiboot image whose header is cut short or wrong at byte \(offset): build it anew,"
            + " or give --load-at to run it as a flat image"
    case .unsupportedELF(let machine): "is an ELF file for machine \(machine): give one for x86"
    case .kernelHeader(let offset):
        "is no Linux kernel that can be booted: its setup header is missing or wrong at byte \(offset):"
            + " give a bzImage, such as a distribution's /boot/vmlinuz"
    case .kernelProtocol(let version):
        "is a Linux kernel with boot protocol \(version >> 8).\(version & 0xFF), and 2.12 is needed:"
            + " use one from 2012 or later (3.8), or boot it through --firmware"
    case .noPVHEntry:
        "is an ELF file without an entry for PVH: give a bzImage, a vmlinux that was built with CONFIG_PVH,"
            + " or with --guest an ELF file that brings its own way"
    case .commandLineTooLong(let bytes, let maximum):
        "reads a command line of \(grouped(maximum)) bytes at most, and --append has \(grouped(bytes))"
    case .initrdDoesNotFit(let byteCount, let memoryBytes):
        "and its --initrd of \(counted(byteCount, "byte")) do not both fit into \(sized(memoryBytes)) of memory:"
            + " use a larger --memory"
    case .machine(let error): sentence(for: error)
    case .vcpu(let error): sentence(for: error)
    }
}
