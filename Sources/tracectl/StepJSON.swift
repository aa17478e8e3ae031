// A step as one line of JSON: keys in a fixed order, counts as numbers, addresses and register values as hex strings,
// so that readers whose numbers are floating point lose nothing.

import NVMM
import TraceFile

/// Builds one JSON object. Written by hand since a dump has a line for every exit.
struct JSONLine {
    private(set) var text = "{"
    private var isFirst = true

    private mutating func key(_ name: String) {
        if !isFirst { text += "," }
        isFirst = false
        text += "\"\(name)\":"
    }
    mutating func add(_ name: String, raw value: String) {
        key(name)
        text += value
    }
    mutating func add(_ name: String, _ value: some BinaryInteger) { add(name, raw: "\(value)") }
    mutating func add(_ name: String, _ value: Bool) { add(name, raw: value ? "true" : "false") }
    mutating func add(_ name: String, hex value: UInt64) { add(name, raw: "\"0x\(String(value, radix: 16))\"") }
    /// - Parameter name: one of our own words: nothing in it needs an escape.
    mutating func add(_ name: String, word value: String) { add(name, raw: "\"\(value)\"") }
    mutating func add(_ name: String, words values: [String]) {
        add(name, raw: "[" + values.map { "\"\($0)\"" }.joined(separator: ",") + "]")
    }
    mutating func add(_ name: String, _ body: (inout JSONLine) -> Void) {
        var line = JSONLine()
        body(&line)
        add(name, raw: line.ended)
    }
    var ended: String { text + "}" }
}

/// - Parameter number: of the step in the trace, from 0.
func jsonLine(of step: Step, number: UInt64) -> String {
    var line = JSONLine()
    line.add("step", number)
    line.add("vcpu", step.vcpu)
    line.add("entered", step.kind == .entered)
    if step.failed { line.add("failed", true) }
    if let budget = step.budget { line.add("budget", budget) }
    line.add("committed", words: VCPUState.names(of: step.commit))
    if let event = step.event {
        line.add("event") { object in
            object.add("kind", word: eventKind(event.kind))
            object.add("vector", event.vector)
            object.add("errorCode", hex: event.errorCode)
        }
    }
    line.add("exit") { add(step.exit.reason, to: &$0) }
    line.add("exitState") { object in
        object.add("rflags", hex: step.exit.state.rflags)
        object.add("cr8", step.exit.state.cr8)
        object.add("interrupt", step.exit.state.interrupt.rawValue)
    }
    line.add("cached", words: VCPUState.names(of: step.cached))
    if let retired = step.retired { line.add("retired", retired) }
    line.add("clock", step.clock)
    if let time = step.time {
        line.add("guestNanoseconds", time.guestNanoseconds)
        line.add("vmmNanoseconds", time.vmmNanoseconds)
    }
    line.add("registers") { add(step.state, step.coverage, to: &$0) }
    return line.ended
}

private func eventKind(_ kind: VCPUEvent.Kind) -> String {
    switch kind {
    case .interrupt: "interrupt"
    case .exception: "exception"
    default: "\(kind.rawValue)"
    }
}

private func add(_ reason: ExitReason, to line: inout JSONLine) {
    line.add("reason", word: reason.name)
    line.add("code", hex: reason.code)
    switch reason {
    case .memory(let exit):
        line.add("access", word: exit.access == .read ? "read" : exit.access == .write ? "write" : "execute")
        line.add("gpa", hex: exit.gpa.rawValue)
        line.add("instruction", word: hexBytes(exit.instruction.bytes))
    case .io(let exit):
        line.add("direction", word: exit.isInput ? "in" : "out")
        line.add("port", hex: UInt64(exit.port))
        line.add("operandBytes", exit.operandBytes)
        line.add("addressBytes", exit.addressBytes)
        if let segment = exit.segment { line.add("segment", word: "\(segment)") }
        line.add("string", exit.isString)
        line.add("repeated", exit.isRepeated)
        line.add("npc", hex: exit.npc)
    case .readMSR(let exit):
        line.add("msr", hex: UInt64(exit.msr))
        line.add("npc", hex: exit.npc)
    case .writeMSR(let exit):
        line.add("msr", hex: UInt64(exit.msr))
        line.add("value", hex: exit.value)
        line.add("npc", hex: exit.npc)
    case .monitor(let npc), .mwait(let npc), .cpuid(let npc): line.add("npc", hex: npc)
    case .invalid(let code): line.add("hardwareCode", hex: code)
    case .none, .shutdown, .interruptReady, .nmiReady, .halted, .tprChanged, .stopped: break
    }
}

private func add(_ state: VCPUState, _ coverage: StateFlags, to line: inout JSONLine) {
    if coverage.contains(.gprs) { for register in GPR.allCases { line.add("\(register)", hex: state[register]) } }
    if coverage.contains(.segments) {
        for register in SegmentRegister.allCases {
            let segment = state[register]
            line.add("\(register)") { object in
                object.add("selector", hex: UInt64(segment.selector))
                object.add("attributes", hex: UInt64(segment.attributes.rawValue))
                object.add("limit", hex: UInt64(segment.limit))
                object.add("base", hex: segment.base)
            }
        }
    }
    if coverage.contains(.crs) { for register in CR.allCases { line.add("\(register)", hex: state[register]) } }
    if coverage.contains(.drs) { for register in DR.allCases { line.add("\(register)", hex: state[register]) } }
    if coverage.contains(.msrs) { for register in MSR.allCases { line.add("\(register)", hex: state[register]) } }
    if coverage.contains(.interrupt) { line.add("interrupt", state.interrupt.rawValue) }
    if coverage.contains(.fpu) {
        // The FXSAVE image, in memory order.
        let bytes = state.withWords { words in
            VCPUState.wordRange(of: .fpu).flatMap { index in
                (0..<8).map { UInt8(truncatingIfNeeded: words[index] >> UInt64($0 * 8)) }
            }
        }
        line.add("fpu", word: hexBytes(bytes))
    }
}

/// Two digits a byte, nothing between.
func hexBytes(_ bytes: [UInt8]) -> String {
    let digits = Array("0123456789abcdef".utf8)
    var text: [UInt8] = []
    text.reserveCapacity(bytes.count * 2)
    for byte in bytes {
        text.append(digits[Int(byte >> 4)])
        text.append(digits[Int(byte & 15)])
    }
    return String(decoding: text, as: UTF8.self)
}
