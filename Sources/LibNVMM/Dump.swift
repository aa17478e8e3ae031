// A VCPU's registers as text, for people: what nvmm_vcpu_dump prints.

import NVMM

/// General registers, segments, control registers and MSRs, several a line.
func dump(_ state: VCPUState, vcpu: UInt32) -> String {
    var text = "VCPU \(vcpu)\n"
    var names = GPR.allCases.map { "\($0)" }[...]
    var values = (0..<18).map { state.gprs[$0] }[...]
    func rows(_ perRow: Int) {
        while !names.isEmpty {
            let row = zip(names.prefix(perRow), values.prefix(perRow)).map { "\(padded($0, 12)) \(hex($1))" }
            text += "  " + row.joined(separator: "  ") + "\n"
            names = names.dropFirst(perRow)
            values = values.dropFirst(perRow)
        }
    }
    rows(3)
    for register in SegmentRegister.allCases {
        let segment = state[register]
        text += "  \(padded("\(register)", 12)) selector \(hex(UInt64(segment.selector), 4))  base \(hex(segment.base))"
        text += "  limit \(hex(UInt64(segment.limit), 8))  attributes \(hex(UInt64(segment.attributes.rawValue), 4))\n"
    }
    names = CR.allCases.map { "\($0)" }[...]
    values = (0..<6).map { state.crs[$0] }[...]
    rows(3)
    names = MSR.allCases.map { "\($0)" }[...]
    values = (0..<11).map { state.msrs[$0] }[...]
    rows(3)
    return text
}

private func padded(_ name: String, _ width: Int) -> String {
    name + String(repeating: " ", count: max(0, width - name.count))
}

private func hex(_ value: UInt64, _ digits: Int = 16) -> String {
    let text = String(value, radix: 16)
    return "0x" + String(repeating: "0", count: max(0, digits - text.count)) + text
}
