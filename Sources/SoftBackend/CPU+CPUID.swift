// CPUID: the model's table, what depends on the VCPU, then the client's rules.

import NVMM

extension CPU {
    mutating func cpuid(_ i: borrowing DecodedInstruction) throws(Interruption) {
        lookAtCode()
        let leaf: UInt32 = read(0)
        var result = model.registers(leaf: leaf, subleaf: read(1))
        if leaf == 1 {
            result.ebx = result.ebx & 0x00FF_FFFF | id << 24
            let osxsave: UInt32 = 1 << 27
            result.ecx = result.ecx & ~osxsave | (cr4 & CR4.osxsave != 0 ? osxsave : 0)
        }
        // Bytes of the components that XCR0 has switched on: SDM vol. 2, CPUID, leaf 0DH.
        if leaf == 0xD, read(1, as: UInt32.self) == 0, model.stateComponents & StateComponent.avx != 0 {
            result.ebx = UInt32(ExtendedArea.byteCount(of: xcr0))
        }
        let rule = cpuidRules[leaf]
        if case .mask(let set, let delete) = rule { result = result.masked(set: set, delete: delete) }
        write(0, result.eax)
        write(3, result.ebx)
        write(1, result.ecx)
        write(2, result.edx)
        if case .exit = rule {
            pendingExit = .cpuid(npc: nextRIP(i))
            throw .exit
        }
    }
}
