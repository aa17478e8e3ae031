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
        "does not fit: \(counted(byteCount, "byte")) at gpa \(hex(gpa.rawValue)) in \(sized(memoryBytes)) of memory:"
            + " use a larger --memory or another --load-at"
    case .loadAddressTooHigh(let gpa):
        "a flat image cannot be entered at \(hex(gpa.rawValue)): use a --load-at below 64 KiB"
    case .diskSize(let bytes, let maximum): "the disk has \(sized(bytes)), and at most \(sized(maximum)) can be"
    case .badImageHeader(let offset): "has a header at byte \(offset) that contradicts itself: it is damaged"
    case .unsupportedELF(let machine): "is an ELF file for machine \(machine): give one for x86"
    case .machine(let error): sentence(for: error)
    case .vcpu(let error): sentence(for: error)
    }
}
