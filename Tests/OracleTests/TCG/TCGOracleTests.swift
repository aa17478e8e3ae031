// System behaviour of the soft backend against QEMU's TCG: the same images, compared at every stop point.
// Where the two disagree the manual decides. Known errors of TCG (QEMU 7.2) that images keep clear of, each tested
// directly in ManualTests: no segment limits, no check of a segment's type or of a null one on data accesses, no #AC,
// no RF in the flags that a fault pushes, error code 8 for reserved bits in PAE and long mode (SDM: 9), #GP instead of
// #SS for non-canonical stack addresses, no checks of values written to CR0, CR4 and base MSRs, IRET to VM86 at CPL 3,
// error codes that name a 64-bit gate by 16 times its vector (SDM: 8 times; the host oracle has it for INT n), no RF in
// the EFLAGS that a task switch saves, accessed bits set by plain loads of data segments only. Random cases found
// more: see SystemCaseGenerator and SystemCaseComparison.

import SoftBackend
import Testing

@Suite(.serialized) struct TCGOracleTests {
    @Test(.enabled(if: TCGSelfTests.hasQEMU, "qemu-system-x86_64 is not installed"), arguments: SystemImage.names)
    func `the system behaves as TCG does, at every stop point`(name: String) throws {
        let image = try SystemImage(name)
        let expected = try ImageRunner.runOnTCG(image)
        let actual = try ImageRunner.run(image, on: SoftBackend())
        for (index, point) in expected.enumerated() {
            guard index < actual.count else {
                Issue.record(
                    "\(name): stop \(index), \(point.name), is not reached; last: \(actual.last?.name ?? "none")")
                break
            }
            guard actual[index].name == point.name else {
                Issue.record("\(name): stop \(index) is \(actual[index].name), on TCG \(point.name)")
                break
            }
            let differences = StopPoint.differences(point, actual[index])
            #expect(
                differences.isEmpty, "\(name), stop \(index), \(point.name):\n\(differences.joined(separator: "\n"))")
            // What follows only repeats the first difference.
            guard differences.isEmpty else { break }
        }
        #expect(actual.count == expected.count)
        print("TCG oracle: \(name), \(actual.count) stop points")
    }

    @Test(arguments: SystemImage.names)
    func `a system image run twice, in runs of a few instructions, stops in the same states`(name: String) throws {
        let image = try SystemImage(name)
        let whole = try ImageRunner.run(image, on: SoftBackend())
        let pieces = try ImageRunner.run(image, on: SoftBackend(), budget: 3)
        #expect(whole.count == pieces.count)
        for (first, second) in zip(whole, pieces) {
            #expect(first.name == second.name)
            #expect(first.registers == second.registers, "\(first.name)")
            #expect(first.memory == second.memory, "\(first.name)")
        }
    }
}
