// What TCG and a backend left of the same case, compared; with what is known to be TCG's own.

enum SystemCaseComparison {
    /// One line for each eight bytes that differ.
    static func differences(_ test: SystemCase, tcg: SystemResult, guest: SystemResult) -> [String] {
        guard tcg != guest else { return [] }
        return stride(from: 0, to: CasePage.byteCount, by: 8).compactMap { offset in
            let mask = compared(offset, test, tcg)
            let left = expected(offset, test, tcg) & mask, right = guest[offset] & mask
            guard left != right else { return nil }
            return "\(CasePage.name(of: offset)): TCG \(OracleComparison.hex(left)), "
                + "guest \(OracleComparison.hex(right))"
        }
    }

    private static let arithmeticFlags: UInt64 = 0x8D5, singleStep: UInt64 = 0x4000
    private static let syscall: [UInt8] = [0x0F, 0x05]

    /// Bits that both machines must have alike.
    private static func compared(_ offset: Int, _ test: SystemCase, _ tcg: SystemResult) -> UInt64 {
        let isPageFault = tcg[CasePage.vector] == 14
        switch offset {
        // What a port without a device gives is the machine's.
        case CasePage.registers where test.kind == .inputOutput && tcg[CasePage.vector] == 3: return ~0xFFFF_FFFF
        // TCG pushes no RF with faults, and loses the arithmetic flags in SYSCALL.
        case CasePage.rflags: return ~0x1_0000 & (test.code == syscall ? ~arithmeticFlags : .max)
        // What is read and written counts as a write; TCG reads it first.
        case CasePage.error: return isPageFault && test.modifiesMemory ? ~2 : .max
        // Whether a walk that fails sets A on its way is the processor's choice.
        case CasePage.entries...CasePage.directoryEntry: return isPageFault ? ~0x20 : .max
        // SDM vol. 3, 6.14.4: SS is null after a change of level; in TCG after every switch to an IST.
        case CasePage.ss: return test.usesInterruptStack ? 0 : .max
        // SDM vol. 3, 18.2.3: B0 to B3 may be set for breakpoints that are not enabled. With a trap, by data or by TF,
        // TCG sets that of an instruction breakpoint at the next address too.
        case CasePage.dr6:
            let control = tcg[CasePage.dr7], status = tcg[CasePage.dr6]
            let enabled = (0..<4).filter { control >> UInt64($0 * 2) & 3 != 0 }
            let ofData = enabled.filter { control >> UInt64(16 + $0 * 4) & 3 != 0 }
            let isTrap = status & singleStep != 0 || ofData.contains { status >> UInt64($0) & 1 != 0 }
            return (isTrap ? ofData : enabled).reduce(~0xF) { $0 | 1 << UInt64($1) }
        default: return .max
        }
    }

    /// TCG names a 64-bit gate by 16 times its vector, the manual by 8 times (SDM vol. 3, 6.13); and of a reserved
    /// bit in a page table it does not say that the page is present (SDM vol. 3, 4.7).
    private static func expected(_ offset: Int, _ test: SystemCase, _ tcg: SystemResult) -> UInt64 {
        let value = tcg[offset]
        guard offset == CasePage.error else { return value }
        if tcg[CasePage.vector] == 14 { return value & 8 != 0 ? value | 1 : value }
        return value & 2 != 0 && test.kind == .interrupt ? value & 7 | value >> 1 & ~7 : value
    }
}
