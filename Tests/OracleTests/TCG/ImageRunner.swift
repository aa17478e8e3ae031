// Runs a system image from stop point to stop point, on TCG and on a backend.

import NVMM

enum ImageRunner {
    /// More stops than any image has: an image that loops is wrong.
    static let stopsMax = 400

    enum RunError: Error, Equatable {
        /// The run ended other than at a HLT.
        case exit(image: String, after: String, ExitReason, rip: UInt64, log: [UInt64])
        /// It halted where there is no stop point.
        case strayHalt(image: String, after: String, rip: UInt64)
        case tooManyStops(image: String)
    }

    /// The image on TCG: breakpoints on its HLTs, each of which is then stepped over.
    static func runOnTCG(_ image: SystemImage) throws -> [StopPoint] {
        let machine = try TCGMachine(image: image.bytes, address: SystemImage.loadAddress)
        for stop in image.stops { try machine.setBreakpoint(stop.address) }
        try machine.set("rdx", 0)
        for segment in ["cs", "ss", "ds", "es", "fs", "gs"] { try machine.set(segment, 0) }
        try machine.set("rip", SystemImage.loadAddress)
        var points: [StopPoint] = []
        while points.count < stopsMax {
            try machine.run()
            var registers = try machine.registers()
            let linear = registers["rip"] ?? 0
            guard let stop = image.stops.first(where: { $0.address == linear }) else {
                throw RunError.strayHalt(image: image.name, after: points.last?.name ?? "start", rip: linear)
            }
            registers["rip"] = linear + 1
            var memory: [String: [UInt8]] = [:]
            for range in image.ranges { memory[range.name] = try machine.memory(at: range.address, count: range.count) }
            points.append(StopPoint(name: stop.name, registers: registers, memory: memory))
            if stop.name == "end" { return points }
            try machine.set("rip", linear + 1)
        }
        throw RunError.tooManyStops(image: image.name)
    }

    /// The image on a backend, through the NVMM interface; each HLT exits by itself.
    ///
    /// - Parameter budget: instructions of one run; small ones cut the image into many.
    static func run(_ image: SystemImage, on backend: any Backend, budget: UInt64 = 100_000) throws -> [StopPoint] {
        let loaded = try LoadedImage(image.bytes, on: backend)
        let vcpu = loaded.vcpu, ram = loaded.ram
        var points: [StopPoint] = []
        while points.count < stopsMax {
            var result = try vcpu.run(budget: budget)
            // An image does a few hundred instructions between two stops.
            var runs = 0
            while result.exit.reason == .none, runs < 20_000 {
                result = try vcpu.run(budget: budget)
                runs += 1
            }
            try vcpu.getState(.all)
            let state = vcpu.commPage.state
            let last = points.last?.name ?? "start"
            guard case .halted = result.exit.reason else {
                throw RunError.exit(
                    image: image.name, after: last, result.exit.reason, rip: state[.rip],
                    log: SystemLog.tail(ram))
            }
            let linear = state[.rip] &+ state[.cs].base &- 1
            guard let stop = image.stops.first(where: { $0.address == linear }) else {
                throw RunError.strayHalt(image: image.name, after: last, rip: linear)
            }
            var registers = state.stubRegisters
            registers["rip"] = linear + 1
            var memory: [String: [UInt8]] = [:]
            for range in image.ranges {
                memory[range.name] = ram.bytes(Int(range.address)..<Int(range.address) + range.count)
            }
            points.append(StopPoint(name: stop.name, registers: registers, memory: memory))
            if stop.name == "end" { return points }
        }
        throw RunError.tooManyStops(image: image.name)
    }
}

/// The handlers' log in guest memory (Images/common.inc).
enum SystemLog {
    static let address = 0x20000

    /// The last entry's eight words, for messages.
    static func tail(_ ram: MemoryObject) -> [UInt64] {
        let bytes = ram.bytes(address..<address + 0x4000)
        let entries = stride(from: 0, to: bytes.count, by: 64).map { Array(bytes[$0..<$0 + 64]) }
        guard let last = entries.last(where: { $0.contains { $0 != 0 } }) else { return [] }
        return stride(from: 0, to: 64, by: 8).map { last[$0..<$0 + 8].littleEndian }
    }
}
