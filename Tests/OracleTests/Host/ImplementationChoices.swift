// Where the host and the backend may differ and both be right: the manual leaves it open, or decides otherwise than this
// host does, or the two machines differ in what lies around the case. Each situation is told as narrowly as it occurs.

import NVMM
import TestSupport

enum ImplementationChoices {
    /// Whether all that differs in an outcome is one of these choices.
    static func explains(
        _ row: HostRow, _ test: OracleCase, host: OracleOutcome, guest: OracleOutcome, fields: [String]
    ) -> Bool {
        switch fields {
        case ["vector"]: pushFaultsFirst(row, test, host: host, guest: guest)
        case ["memory"]: firstPushStays(row, test, host: host, guest: guest)
        case ["error code"]: isPresentElsewhere(host: host, guest: guest)
        default: false
        }
    }

    /// SDM vol. 2A, CALL: a target outside the code segment, or not canonical, is #GP(0) before anything is pushed. AMD's
    /// processors push first; where that faults too, they report the page.
    private static func pushFaultsFirst(
        _ row: HostRow, _ test: OracleCase, host: OracleOutcome, guest: OracleOutcome
    ) -> Bool {
        row.mnemonic == "CALL" && guest.vector == 13 && guest.errorCode == 0 && host.vector == 14
            && firstPush(row, test).contains(host.cr2)
    }

    /// SDM vol. 2A, CALL: the stack has room for both words of a far call, or #SS comes before the first is pushed. AMD's
    /// processors leave the first.
    private static func firstPushStays(
        _ row: HostRow, _ test: OracleCase, host: OracleOutcome, guest: OracleOutcome
    ) -> Bool {
        row.mnemonic == "CALL far" && host.vector == 12 && guest.vector == 12 && guest.changeCount == 0
            && host.changeCount == host.changes.count
            && host.changes.allSatisfy { firstPush(row, test).contains(Window.dataBase + UInt64($0.offset)) }
    }

    /// Around the windows, where the guest has nothing, the host's process and kernel have pages of their own: an access
    /// from user mode meets a page that is not present here and one that is the supervisor's there.
    private static func isPresentElsewhere(host: OracleOutcome, guest: OracleOutcome) -> Bool {
        let directoryBytes: UInt64 = 2 << 20
        return host.vector == 14 && guest.vector == 14 && host.errorCode == guest.errorCode | 1
            && host.cr2 / directoryBytes != Window.dataBase / directoryBytes
    }

    /// Linear addresses of the first word that the instruction pushes.
    private static func firstPush(_ row: HostRow, _ test: OracleCase) -> Range<UInt64> {
        let byteCount = UInt64(row.size / 8)
        let stack = HostCaseLayout.segment(test.state.ss)
        let is64 = test.mode == .bits64
        let mask: UInt64 = is64 ? .max : stack.attributes.contains(.defaultBig) ? 0xFFFF_FFFF : 0xFFFF
        let base = is64 ? 0 : stack.base
        let start = (base &+ (test.state.gprs[4] &- byteCount) & mask) & (is64 ? .max : 0xFFFF_FFFF)
        return start..<start + byteCount
    }

    /// Whether a case that ran on to a HLT came to one of another case's code: what it executed there is that one's.
    static func strayed(_ test: OracleCase, slot: Int, slots: Int, _ outcome: OracleOutcome) -> Bool {
        guard test.runsToHalt, outcome.vector == nil else { return false }
        let offset = Window.isCodeBased(outcome.state.cs) ? outcome.state.rip : outcome.state.rip &- Window.codeBase
        guard offset < UInt64(Window.byteCount) else { return false }
        let (other, place) = Int(offset).quotientAndRemainder(dividingBy: Window.slotBytes)
        // Longer than 15 bytes is no instruction, and the HLT behind it is one more.
        return other != slot && other < slots && (Window.slotEntry...Window.slotEntry + 17).contains(place)
    }
}
