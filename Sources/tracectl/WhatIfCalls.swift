// tracectl whatif: what the same run would have cost in system calls under other interfaces and policies.

import Analysis
import ArgumentParser
import Glibc
import NVMM
import TraceFile

struct WhatIfCalls: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "whatif",
        abstract: "Counts the system calls of a run under other interfaces and comm-page policies.",
        discussion: """
            A policy says which parts of the state an exit leaves in the comm page unasked. In a file: a line of TOML \
            for each reason, such as IO = ["gprs", "segments"]. Times are the count and what a system call costs on \
            this machine. record --comm-page FILE runs a guest under a policy for real.

            Example: tracectl whatif boot.vmtrace
            Example: tracectl whatif boot.vmtrace --best best.toml && tracectl record --comm-page best.toml --firmware \
            bios.bin -o best.vmtrace
            """)

    @Argument(help: TraceName.help, completion: .file(extensions: ["vmtrace"]))
    var trace: TraceName

    @Option(help: ArgumentHelp("A policy to count too.", valueName: "file"), completion: .file(extensions: ["toml"]))
    var policy: String?

    @Option(help: ArgumentHelp("Write the best policy for this trace here.", valueName: "file"))
    var best: String?

    @Flag(help: "One JSON document.")
    var json = false

    private struct Row: Encodable {
        var interface: String
        var systemCalls: UInt64
        var partsProvided: UInt64
        var milliseconds: Double
    }

    private struct Document: Encodable {
        var rows: [Row]
        var best: String
        var callNanoseconds: CallCost
    }

    /// Of one system call on this machine.
    struct CallCost: Encodable {
        var median: Double
        var lowest: Double
        var highest: Double
    }

    func run() throws {
        Interruption.watch()
        let own = try policy.map { try readPolicy($0) }
        let counts = try about(trace.text) { try WhatIf(try TraceReader(path: trace.path)) }
        let bestPolicy = counts.best
        let cost = Self.measure()
        var rows: [Row] = []
        func add(_ interface: String, _ calls: UInt64, _ parts: UInt64) {
            rows.append(
                Row(
                    interface: interface, systemCalls: calls, partsProvided: parts,
                    milliseconds: Double(calls) * cost.median / 1e6))
        }
        add("no comm page", counts.callsWithoutPage, 0)
        add(
            "state, NVMM's policy", counts.calls(.nvmm, includesEvents: false), counts.partsProvided(.nvmm))
        var policies: [(String, CommPagePolicy)] = [
            ("nothing", .nothing), ("NVMM's policy", .nvmm), ("everything", .everything),
        ]
        if let own, let policy { policies.append((policy, own)) }
        policies.append(("the best", bestPolicy))
        for (name, policy) in policies {
            add("state and events, \(name)", counts.calls(policy, includesEvents: true), counts.partsProvided(policy))
        }
        if let best { try writeText(CommPagePolicyFile.text(bestPolicy), to: best) }
        let bestText = CommPagePolicyFile.text(bestPolicy)
        if json {
            return StandardOutput.line(
                try StableJSON.text(Document(rows: rows, best: bestPolicy.text, callNanoseconds: cost)))
        }
        let lines = table(
            "system calls with a comm page for", ["count", "parts filled", "ms"],
            rows.map {
                ($0.interface, [grouped($0.systemCalls), grouped($0.partsProvided), decimals($0.milliseconds)])
            })
        StandardOutput.write(lines.dropFirst().joined(separator: "\n") + "\n")
        StandardOutput.line("")
        StandardOutput.line("the best policy for this trace:")
        for line in bestText.split(separator: "\n") { StandardOutput.line("  " + line) }
        StandardOutput.line("")
        StandardOutput.line(
            "a system call takes \(decimals(cost.median, 0)) ns here (\(decimals(cost.lowest, 0)) to"
                + " \(decimals(cost.highest, 0)) in 9 of 10 samples); a hypervisor's own work comes on top")
    }

    /// getppid, which does nothing but enter the kernel.
    private static func measure() -> CallCost {
        let clock = ContinuousClock()
        var samples: [Double] = []
        for _ in 0..<101 {
            let calls = 2000
            let elapsed = clock.measure { for _ in 0..<calls { _ = getppid() } }
            samples.append(elapsed / .nanoseconds(1) / Double(calls))
        }
        samples.sort()
        return CallCost(median: samples[50], lowest: samples[5], highest: samples[95])
    }
}

func readPolicy(_ path: String) throws -> CommPagePolicy {
    let bytes = try readFile(path)
    return try about(path) { try CommPagePolicyFile.policy(in: String(decoding: bytes, as: UTF8.self)) }
}
