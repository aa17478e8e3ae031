// tracectl import: makes a trace of the file that a shim wrote where no drainer ran.

import ArgumentParser
import SystemPackage
import TraceFile
import Tracer

struct ImportRecords: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Makes a trace of the records that a client wrote without a drainer.",
        discussion: """
            A client of libnvmm writes them, also where there is no tracectl:
              VMTRACE_RAW=client.raw VMTRACE_LEVEL=replay LD_PRELOAD=libvmtrace.so ./client

            Status 0: all records were used; 1: the file is damaged, and the trace ends there.

            Example: tracectl import client.raw -o client.vmtrace
            """)

    @Argument(help: ArgumentHelp("The file of records.", valueName: "raw"), completion: .file())
    var records: String

    @Option(
        name: [.short, .long], help: ArgumentHelp("The trace to write; - for standard output.", valueName: "trace"),
        completion: .file(extensions: ["vmtrace"]))
    var output: String

    func run() throws {
        let isPiped = output == "-"
        func say(_ line: String) {
            if isPiped { StandardError.line(line) } else { StandardOutput.line(line) }
        }
        if !isPiped {
            guard !isSameFile(FilePath(records), FilePath(output)) else {
                throw Trouble(path: output, cause: PlainTrouble(sentence: "is also what is read: give another name"))
            }
            try refuseUnrepaired(output)
        }
        let report: ImportReport
        do throws(ImportError) {
            report = try importRecords(
                path: FilePath(records), to: isPiped ? .descriptor(.standardOutput) : .file(FilePath(output)))
        } catch {
            if case .write = error { throw Trouble(path: isPiped ? "standard output" : output, cause: error) }
            throw Trouble(path: records, cause: error)
        }
        let result = report.result
        guard let totals = result.totals else {
            throw Trouble(path: records, cause: PlainTrouble(sentence: "holds no machine: nothing was recorded"))
        }
        say("imported \(counted(totals.stepCount, "exit")); good for: \(words(result.grade.level))")
        for reason in result.grade.reasons { say("  \(words(reason))") }
        if report.cutOffBytes > 0 { say("a last record was cut off: its writer was killed") }
        if let damage = report.damage {
            StandardError.line("tracectl: \(records): \(sentence(for: damage)): the trace ends there")
            throw ExitStatus.difference
        }
    }
}
