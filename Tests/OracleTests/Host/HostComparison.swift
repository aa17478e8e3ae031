// Runs rows of the table on the host and on a backend, side by side.

import NVMM
import SoftBackend

/// What came of one row.
struct HostRowResult: Sendable {
    var row: HostRow
    var cases = 0
    var differing = 0
    /// Differences that are none: told by ``ImplementationChoices``, or gone once the case ran alone.
    var choices = 0, strays = 0
    /// The first few.
    var failures: [OracleFailure] = []
}

/// Host and guest for a run over many rows.
final class HostComparison {
    let host: HostOracle
    let guest: GuestOracle
    let features: OfferedFeatures

    init(host: HostOracle, backend: any Backend = SoftBackend(model: HostOracle.model)) throws {
        self.host = host
        guest = try GuestOracle(backend)
        features = OfferedFeatures(backend)
    }

    /// Rows that host and backend both run.
    var rows: [(row: HostRow, forms: [InstructionForm])] {
        InstructionTable.rows.compactMap { row, forms in
            let offered = forms.filter { form in
                if form.isUnlisted, HostOracle.vendor != "GenuineIntel" { return false }
                return form.feature.map { features.offers($0) && HostOracle.offers($0) } ?? true
            }
            return host.runs(row.mode) && !offered.isEmpty ? (row, offered) : nil
        }
    }

    /// - Parameter seed: of the whole run; each row derives its own, so that a row can be run again alone.
    func run(_ row: HostRow, _ forms: [InstructionForm], seed: UInt64, cases count: Int) throws -> HostRowResult {
        var result = HostRowResult(row: row)
        var generator = CaseGenerator(seed: seed ^ Self.mix(row))
        while result.cases < count {
            let batch = (0..<min(Window.casesMax, count - result.cases)).map { slot in
                generator.make(forms[(result.cases + slot) % forms.count], size: row.size, mode: row.mode, slot: slot)
            }
            let expected = host.run(batch[...])
            let actual = try guest.run(batch[..<expected.count])
            for (index, test) in batch[..<expected.count].enumerated() {
                var pair = OraclePair(host: expected[index], guest: actual[index])
                guard !pair.differences(test).isEmpty else { continue }
                let runAlone = { [self] (test: OracleCase) in try alone(test, slot: index) }
                if pair.leftSlot(index, test), let again = try runAlone(test) { pair = again }
                let differences = pair.differences(test)
                guard !differences.isEmpty else {
                    result.strays += 1
                    continue
                }
                guard try !ImplementationChoices.explain(pair, row, test, alone: runAlone) else {
                    result.choices += 1
                    continue
                }
                result.differing += 1
                guard result.failures.count < 3 else { continue }
                result.failures.append(
                    OracleFailure(
                        row: row, seed: seed, index: result.cases + index, test: test, host: pair.host,
                        guest: pair.guest, differences: differences))
            }
            result.cases += expected.count
            guard expected.count == batch.count else {
                throw HostComparisonError.hostStopped(
                    row: row, seed: seed, index: result.cases, code: batch[expected.count].code)
            }
        }
        return result
    }

    /// Runs one case where its batch has it, but with HLT in all other slots.
    ///
    /// - Returns: nil where it hung or killed the host's child.
    func alone(_ test: OracleCase, slot: Int) throws -> OraclePair? {
        guard let expected = host.run([test], firstSlot: slot).first else { return nil }
        return try OraclePair(host: expected, guest: guest.run([test], firstSlot: slot)[0])
    }

    /// FNV-1a over the row's text: the same in every process, unlike Swift's own hashes.
    private static func mix(_ row: HostRow) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in "\(row.mnemonic)/\(row.size)/\(row.mode.rawValue)".utf8 {
            hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3
        }
        return hash
    }
}

/// What one case came to on both sides.
struct OraclePair: Sendable {
    var host: OracleOutcome
    var guest: OracleOutcome

    func differences(_ test: OracleCase) -> [OracleDifference] { OracleComparison.differences(test, host, guest) }

    /// Whether a case that runs on to a HLT came to another case's slot: what stands there, from any byte on, is no
    /// part of this case and may leave undefined what this one does not.
    func leftSlot(_ slot: Int, _ test: OracleCase) -> Bool {
        guard test.runsToHalt else { return false }
        return [host.state, guest.state].contains { state in
            let offset = Window.isCodeBased(state.cs) ? state.rip : state.rip &- Window.codeBase
            return offset < UInt64(Window.byteCount) && Int(offset) / Window.slotBytes != slot
        }
    }
}

enum HostComparisonError: Error {
    /// A case hung or killed the child that runs it.
    case hostStopped(row: HostRow, seed: UInt64, index: Int, code: [UInt8])
}

/// Which optional instructions a backend's CPUID offers.
struct OfferedFeatures: Sendable {
    private let table: [CPUIDEntry]
    init(_ backend: any Backend) { table = backend.cpuidTable }

    func offers(_ feature: CPUFeature) -> Bool {
        let place = feature.place
        guard let entry = table.first(where: { $0.leaf == place.leaf && $0.subleaf == 0 }) else { return false }
        let registers = [entry.registers.eax, entry.registers.ebx, entry.registers.ecx, entry.registers.edx]
        return registers[place.register] >> UInt32(place.bit) & 1 != 0
    }
}
