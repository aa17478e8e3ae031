// One VCPU of the PC with its local APIC and what the VMM knows of it between runs.

import NVMM

/// A VCPU as its VMM sees it.
final class Processor {
    let vcpu: any VCPU
    let apic: LocalAPIC
    /// Of the last exit: whether an interrupt can be taken is read from here.
    var exitState = ExitState(rflags: 2)
    var isHalted = false
    /// After INIT: runs nothing until a start-up message.
    var waitsForStartUp: Bool
    /// An exception that the VMM owes the guest (#UD after MWAIT, say).
    var owedException: VCPUEvent?

    init(vcpu: any VCPU, apic: LocalAPIC, isBootstrap: Bool) {
        self.vcpu = vcpu
        self.apic = apic
        waitsForStartUp = !isBootstrap
    }

    var interruptsAreOn: Bool { exitState.rflags & 1 << 9 != 0 }

    /// Whether an injected interrupt would be taken at once.
    var canTakeInterrupt: Bool {
        interruptsAreOn && !exitState.interrupt.contains(.shadow) && !exitState.interrupt.contains(.eventPending)
    }

    /// INIT: registers as after RESET; the time-stamp counter runs on.
    func initialise() throws(VCPUError) {
        try vcpu.getState(.msrs)
        let counter = vcpu.commPage.state[.tsc]
        vcpu.commPage.state = .reset
        vcpu.commPage.state[.tsc] = counter
        vcpu.setState(.all)
        apic.initialise()
        exitState = ExitState(rflags: 2)
        isHalted = false
        waitsForStartUp = apic.base & 0x100 == 0
        owedException = nil
    }

    /// A start-up message: real mode at page `vector`. Ignored by a processor that does not wait for one.
    func startUp(vector: UInt8) throws(VCPUError) {
        guard waitsForStartUp else { return }
        waitsForStartUp = false
        try vcpu.getState([.segments, .gprs])
        vcpu.commPage.state[.cs].selector = UInt16(vector) << 8
        vcpu.commPage.state[.cs].base = UInt64(vector) << 12
        vcpu.commPage.state[.rip] = 0
        vcpu.setState([.segments, .gprs])
    }
}
