// Names and values of an exit, for comparisons that people read.

internal import NVMM

/// Reason and payload of an exit as named values, in the order of `struct nvmm_x86_exit`.
enum ExitFields {
    static func compare(_ expected: VCPUExit, _ actual: VCPUExit) -> [ComparedField] {
        let left = payload(expected.reason)
        let right = payload(actual.reason)
        var fields = [ComparedField(name: "exit", expected: expected.reason.name, actual: actual.reason.name)]
        for (name, value) in left {
            let other = right.first { $0.name == name }?.value ?? "-"
            fields.append(ComparedField(name: "exit." + name, expected: value, actual: other))
        }
        for (name, value) in right where !left.contains(where: { $0.name == name }) {
            fields.append(ComparedField(name: "exit." + name, expected: "-", actual: value))
        }
        return fields
    }

    static func compareState(_ expected: ExitState, _ actual: ExitState) -> [ComparedField] {
        [
            ComparedField(name: "exitstate.rflags", expected: hex(expected.rflags), actual: hex(actual.rflags)),
            ComparedField(name: "exitstate.cr8", expected: "\(expected.cr8)", actual: "\(actual.cr8)"),
            ComparedField(
                name: "exitstate.interrupt", expected: shortHex(expected.interrupt.rawValue),
                actual: shortHex(actual.interrupt.rawValue)),
        ]
    }

    static func payload(_ reason: ExitReason) -> [(name: String, value: String)] {
        switch reason {
        case .none, .shutdown, .interruptReady, .nmiReady, .halted, .tprChanged, .stopped: []
        case .memory(let exit):
            [
                ("access", exit.access.name), ("gpa", hex(exit.gpa.rawValue)),
                ("instruction", exit.instruction.count == 0 ? "-" : hexBytes(exit.instruction.bytes)),
            ]
        case .io(let exit):
            [
                ("direction", exit.isInput ? "in" : "out"), ("port", hex(UInt64(exit.port), digits: 4)),
                ("operandBytes", "\(exit.operandBytes)"), ("addressBytes", "\(exit.addressBytes)"),
                ("segment", exit.segment.map { "\($0)" } ?? "-"), ("string", "\(exit.isString)"),
                ("repeated", "\(exit.isRepeated)"), ("npc", hex(exit.npc)),
            ]
        case .readMSR(let exit): [("msr", hex(UInt64(exit.msr), digits: 8)), ("npc", hex(exit.npc))]
        case .writeMSR(let exit):
            [("msr", hex(UInt64(exit.msr), digits: 8)), ("value", hex(exit.value)), ("npc", hex(exit.npc))]
        case .monitor(let npc), .mwait(let npc), .cpuid(let npc): [("npc", hex(npc))]
        case .invalid(let code): [("hardwareCode", hex(code))]
        }
    }
}

extension Protection {
    /// `read`, `write`, `execute`, joined by `|`.
    var name: String {
        let names: [(Protection, String)] = [
            (.read, "read"), (.write, "write"), (.execute, "execute"), (.user, "user"),
        ]
        let present = names.filter { contains($0.0) }.map(\.1)
        return present.isEmpty ? "none" : present.joined(separator: "|")
    }
}

/// Two digits a byte, separated by spaces.
func hexBytes(_ bytes: [UInt8]) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: " ")
}
