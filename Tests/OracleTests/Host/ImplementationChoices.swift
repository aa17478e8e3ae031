// Where the host and the backend may differ and both be right: the manual leaves it open, or decides otherwise than
// this host does, or the two machines differ in what lies around the case. Each situation is told as narrowly as it
// occurs.

import CHostOracle
import NVMM

enum ImplementationChoices {
    /// Whether all that differs is one of these choices.
    ///
    /// - Parameter alone: runs a variant of the case on both sides.
    static func explain(
        _ pair: OraclePair, _ row: HostRow, _ test: OracleCase, alone: (OracleCase) throws -> OraclePair?
    ) rethrows -> Bool {
        if isElementFault(pair, row) { return true }
        return switch pair.differences(test).map(\.field) {
        case ["vector"]: try pushFaultsFirst(pair, row, test, alone: alone)
        case ["memory"]: firstPushStays(pair, row, test)
        case ["error code"]: isPresentElsewhere(pair)
        default: false
        }
    }

    /// SDM vol. 2, VGATHERDPS and VMASKMOV: elements may be accessed in any order, and the registers as a fault leaves
    /// them follow from it. The backend does as AMD's processors do, which are held to all of it.
    private static func isElementFault(_ pair: OraclePair, _ row: HostRow) -> Bool {
        guard HostOracle.vendor != "AuthenticAMD",
            row.mnemonic.contains("GATHER") || ["VMASKMOVP", "VPMASKMOV"].contains(where: row.mnemonic.hasPrefix)
        else { return false }
        return pair.host.vector == pair.guest.vector && [13, 14].contains(pair.host.vector)
    }

    /// SDM vol. 2A, CALL: a near target beyond the limit is #GP(0) before the push. One that is not canonical is #GP(0)
    /// in the list of exceptions alone, so the order is open; the backend has the same one. AMD's processors push
    /// first, and where both fail they report the page, or the stack's limit.
    ///
    /// That the push fails is what the host says of a page that no case can write, or the limit of a word at the top of
    /// a 16-bit stack; that the target does, what both say once the stack is elsewhere.
    private static func pushFaultsFirst(
        _ pair: OraclePair, _ row: HostRow, _ test: OracleCase, alone: (OracleCase) throws -> OraclePair?
    ) rethrows -> Bool {
        guard row.mnemonic == "CALL", pair.guest.vector == 13, pair.guest.errorCode == 0 else { return false }
        let pushes = Pushes(row, test)
        switch pair.host.vector {
        case 12:
            guard pair.host.errorCode == 0, !pushes.hasRoom(0) else { return false }
        case 14:
            let userWrite: UInt32 = 6
            guard pair.host.errorCode & userWrite == userWrite, pushes.word(0).contains(pair.host.cr2),
                case let offset = pair.host.cr2 &- Window.dataBase, offset < UInt64(Window.byteCount),
                !CaseGenerator.isWritable(Int(offset))
            else { return false }
        default: return false
        }
        var roomy = test
        roomy.state.gprs[4] = test.state.gprs[4] & ~0xFFFF | 0x6400
        guard let again = try alone(roomy) else { return false }
        return again.host.vector == 13 && again.host.errorCode == 0 && again.differences(roomy).isEmpty
    }

    /// SDM vol. 2A, CALL: the stack has room for both words of a far call, or #SS(0) comes before the first is pushed.
    /// AMD's processors leave the first, which is CS, where only the second has no room.
    private static func firstPushStays(_ pair: OraclePair, _ row: HostRow, _ test: OracleCase) -> Bool {
        guard row.mnemonic == "CALL far" else { return false }
        let pushes = Pushes(row, test), word = pushes.word(0)
        return pair.host.vector == 12 && pair.guest.vector == 12
            && pushes.hasRoom(0) && !pushes.hasRoom(1)
            && pair.guest.changeCount == 0 && pair.host.changeCount == pair.host.changes.count
            && pair.host.changes.allSatisfy { change in
                let place = Window.dataBase + UInt64(change.offset)
                return word.contains(place)
                    && UInt64(change.value) == UInt64(test.state.cs) >> (8 * (place - word.lowerBound)) & 0xFF
            }
    }

    /// SDM vol. 3A, 4.7: P tells an access that a present page refuses. Around the windows, where the guest has
    /// nothing, the host's process and kernel have pages of their own: an access from user mode to the same address
    /// meets no page here and one there that refuses it.
    private static func isPresentElsewhere(_ pair: OraclePair) -> Bool {
        let present: UInt32 = 1, user: UInt32 = 4, directoryBytes: UInt64 = 2 << 20
        return pair.host.vector == 14 && pair.guest.vector == 14 && pair.host.cr2 == pair.guest.cr2
            && pair.guest.errorCode & (present | user) == user && pair.host.errorCode == pair.guest.errorCode | present
            && pair.host.cr2 / directoryBytes != Window.dataBase / directoryBytes
    }
}

/// Where a case's pushes go, one word of the operand's size after the other.
private struct Pushes {
    private let byteCount: UInt64
    private let pointer: UInt64
    private let is64: Bool
    private let stack: Segment

    init(_ row: HostRow, _ test: OracleCase) {
        byteCount = UInt64(row.size / 8)
        pointer = test.state.gprs[4]
        is64 = test.mode == .bits64
        stack = HostCaseLayout.segment(test.state.ss)
    }

    private func offset(_ index: UInt64) -> UInt64 {
        let top = pointer &- byteCount * (index + 1)
        return is64 ? top : top & (stack.attributes.contains(.defaultBig) ? 0xFFFF_FFFF : 0xFFFF)
    }

    /// Linear addresses.
    func word(_ index: UInt64) -> ClosedRange<UInt64> {
        let start = is64 ? offset(index) : (stack.base &+ offset(index)) & 0xFFFF_FFFF
        return start...max(start, start &+ (byteCount - 1))
    }

    /// Whether the word lies within the limit: no case has an expand-down stack, and in 64-bit mode there is no limit.
    func hasRoom(_ index: UInt64) -> Bool { is64 || offset(index) &+ (byteCount - 1) <= UInt64(stack.limit) }
}
