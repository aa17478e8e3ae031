// Differences that rules accept, and those that no rule covers.

import NVMM
import Replay
import TestSupport
import Testing
import TraceTestSupport
import Tracer

@Suite struct KnownDifferenceTests {
    private func rule(_ instruction: String, _ field: String) -> KnownDifference {
        KnownDifference(instruction: instruction, field: field, reason: "a test", proof: "this one")
    }

    /// A backend whose ADD leaves a wrong carry in one run, under rules.
    private func replay(_ rules: [KnownDifference], reference: Bool = true) throws -> ReplayReport {
        let trace = try RecordedTrace(steps: 40, RecorderOptions(keyframeEverySteps: 8))
        var options = ReplayOptions()
        options.known = rules
        return try trace.replay(
            on: ToyBackend(fault: .carryFlag(from: 60)), reference: reference ? ToyBackend() : nil, options)
    }

    @Test func `a difference that a rule covers is explained and counted`() throws {
        let report = try replay([rule("hlt", "rax"), rule("add", "rflags.cf")])
        #expect(report.totals.divergent == 0)
        #expect(report.totals.explained > 0)
        #expect(report.knownDifferences.map(\.stepCount) == [0, report.totals.explained])
        #expect(report.knownDifferences[0].firstStep == nil)
        #expect(report.knownDifferences[1].firstStep == report.explainedInstructions.first?.place.step)
        #expect(report.explainedInstructions.allSatisfy { $0.place.mnemonic == "add" })
    }

    @Test func `the whole register covers its flags, the form its mnemonic`() throws {
        let forms = Set(try replay([rule("add", "rflags")]).explainedInstructions.map(\.place.form))
        #expect(!forms.isEmpty)
        #expect(try replay(forms.map { rule($0, "rflags") }).totals.divergent == 0)
    }

    @Test(arguments: [("add", "rflags.zf"), ("sub", "rflags.cf"), ("add m8, imm8", "rflags.cf"), ("add", "rfl")])
    func `what no rule covers stays a divergence`(instruction: String, field: String) throws {
        let report = try replay([rule(instruction, field)])
        #expect(report.totals.divergent == 1)
        #expect(report.divergence?.differingFields.map(\.name).contains("rflags") == true)
        #expect(report.knownDifferences.map(\.stepCount) == [0])
    }

    @Test func `it needs no reference backend`() throws {
        #expect(try replay([rule("add", "rflags.cf")], reference: false).totals.divergent == 0)
    }
}
