// Counts of a trace as tables for people.

import Analysis

func text(of statistics: TraceStatistics) -> String {
    let steps = statistics.steps
    var lines = [
        "\(counted(steps.count, "step")), \(counted(steps.instructions, "instruction")), clock \(grouped(steps.clock))"
    ]
    if steps.returnedEarly + steps.failed > 0 {
        lines.append("  \(grouped(steps.returnedEarly)) returned early, \(grouped(steps.failed)) failed")
    }
    if let guest = steps.guestNanoseconds {
        lines.append("  host time: \(decimals(Double(guest) / 1e9)) s in the guest")
    }
    let total = max(statistics.exits.reduce(0) { $0 + $1.count }, 1)
    lines += table(
        "exits by reason", ["count", "share", "instructions"],
        statistics.exits.sorted { $0.count > $1.count }.map { entry in
            let share = decimals(Double(entry.count) * 100 / Double(total), 1) + "%"
            return (entry.reason, [grouped(entry.count), share, grouped(entry.instructions)])
        })
    lines += table(
        "port accesses", ["count"],
        statistics.io.sorted { $0.count > $1.count }.map { entry in
            let way = entry.isInput ? "in " : "out"
            return ("\(way) port \(hex(UInt64(entry.port))), \(entry.operandBytes) B", [grouped(entry.count)])
        })
    lines += table(
        "MSR accesses", ["count"],
        statistics.msrs.sorted { $0.count > $1.count }.map { entry in
            ("\(entry.isWrite ? "WRMSR" : "RDMSR") \(hex(UInt64(entry.msr)))", [grouped(entry.count)])
        })
    lines += table(
        "memory exits by page", ["count"],
        statistics.memory.sorted { $0.count > $1.count }.map { entry in
            ("gpa \(hex(entry.gpa)) \(entry.access)", [grouped(entry.count)])
        })
    lines += table(
        "injected events", ["count"],
        statistics.events.sorted { $0.count > $1.count }.map { entry in
            ("\(entry.kind) \(hex(UInt64(entry.vector)))", [grouped(entry.count)])
        })
    lines += calls(statistics.calls)
    lines += table(
        "VCPUs", ["steps", "instructions"],
        statistics.vcpus.map { ("VCPU \($0.id)", [grouped($0.steps), grouped($0.instructions)]) })
    let writes = statistics.memoryWrites
    lines += ["", "memory written by the VMM: \(counted(writes.count, "write")), \(sized(writes.byteCount))"]
    if writes.rawStores > 0 { lines.append("  of these went past the interface: \(grouped(writes.rawStores))") }
    lines.append("keyframes: \(grouped(statistics.keyframeCount))")
    if statistics.lostEventCount > 0 { lines.append("events lost: \(grouped(statistics.lostEventCount))") }
    return lines.joined(separator: "\n") + "\n"
}

private func calls(_ calls: TraceStatistics.Calls) -> [String] {
    let all = calls.getState + calls.setState + calls.inject + calls.stop + calls.run + calls.machine
    var lines = table(
        "calls", ["count"],
        [
            ("run", [grouped(calls.run)]), ("getstate", [grouped(calls.getState)]),
            ("setstate", [grouped(calls.setState)]), ("inject", [grouped(calls.inject)]),
            ("stop", [grouped(calls.stop)]), ("machine and configuration", [grouped(calls.machine)]),
        ])
    lines.append("  \(grouped(all)) in all, \(grouped(calls.systemCalls)) of them system calls under the comm-page ABI")
    if calls.slices > 0 {
        lines.append("  \(counted(calls.slices, "time")) a VCPU gave way inside a run, unseen, or a signal ended a run")
    }
    let interfaces = calls.underInterface
    func saved(_ count: UInt64) -> String { grouped(interfaces.noCommPage &- min(count, interfaces.noCommPage)) }
    lines += table(
        "system calls with", ["count", "saved"],
        [
            ("no comm page", [grouped(interfaces.noCommPage), "0"]),
            ("a comm page for state", [grouped(interfaces.commPageForState), saved(interfaces.commPageForState)]),
            (
                "a comm page for state and events",
                [grouped(interfaces.commPageForStateAndEvents), saved(interfaces.commPageForStateAndEvents)]
            ),
        ])
    lines += table(
        "comm page by part", ["hits", "misses", "sets", "commits"],
        calls.parts.map { ($0.part, [grouped($0.hits), grouped($0.misses), grouped($0.sets), grouped($0.commits)]) })
    return lines
}

/// A titled table with right-aligned columns; nothing where there are no rows.
func table(_ title: String, _ headings: [String], _ rows: [(name: String, cells: [String])]) -> [String] {
    guard !rows.isEmpty else { return [] }
    let rows = rows.map { (name: "  " + $0.name, cells: $0.cells) }
    let nameWidth = max(rows.map(\.name.count).max() ?? 0, title.count)
    let widths = headings.indices.map { column in
        max(headings[column].count, rows.map { $0.cells[column].count }.max() ?? 0)
    }
    func line(_ name: String, _ cells: [String]) -> String {
        var text = name + String(repeating: " ", count: nameWidth - name.count)
        for (cell, width) in zip(cells, widths) {
            text += "  " + String(repeating: " ", count: width - cell.count) + cell
        }
        return text
    }
    return ["", line(title, headings)] + rows.map { line($0.name, $0.cells) }
}

func text(of profile: TraceProfile) -> String {
    let rows = profile.instructions.prefix(20)
    var headings = ["exits", "instructions"]
    if profile.guestTime != nil { headings.append("guest us") }
    var lines = table(
        "exits by instruction", headings,
        rows.map { row in
            let address = row.base == 0 ? hex(row.rip) : "\(hex(row.base)) + \(hex(row.rip))"
            let name = [address, row.symbol, row.text, row.reason].compactMap { $0 }.joined(separator: "  ")
            var cells = [grouped(row.count), grouped(row.instructions)]
            if let time = row.guestNanoseconds { cells.append(grouped(time / 1000)) }
            return (name, cells)
        })
    lines += table(
        "exits by device", ["count"],
        devices(profile).sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { ($0.key, [grouped($0.value)]) })
    lines += table(
        "after an exit the VMM", ["times"],
        profile.pairs.map { pair in
            func names(_ parts: [String]) -> String { parts.isEmpty ? "nothing" : parts.joined(separator: ", ") }
            return ("\(pair.reason): reads \(names(pair.read)), writes \(names(pair.written))", [grouped(pair.count)])
        })
    let times = [
        ("in the guest, ns", profile.guestTime), ("in the VMM, ns", profile.vmmTime),
        ("from inject to entry, ticks", profile.injectionDelay),
    ]
    lines += table(
        "times", ["count", "min", "50 %", "90 %", "99 %", "99.9 %", "max"],
        times.compactMap { name, latencies in
            guard let latencies else { return nil }
            let values = [latencies.minimum] + latencies.percentiles.map(\.value) + [latencies.maximum]
            return (name, [grouped(latencies.count)] + values.map { grouped($0) })
        })
    lines.append("")
    lines.append("waiting: \(decimals(profile.idleShare * 100, 1)) % of the clock")
    return lines.joined(separator: "\n") + "\n"
}

private func devices(_ profile: TraceProfile) -> [String: UInt64] {
    profile.places.reduce(into: [:]) { $0[$1.device ?? $1.name, default: 0] += $1.count }
}
