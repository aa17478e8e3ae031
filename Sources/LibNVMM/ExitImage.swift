// An exit as C sees it: `struct nvmm_x86_exit`, 64 bytes.

import CNVMM
import NVMM

extension nvmm_x86_exit {
    /// Fields that the reason does not use are zero.
    init(_ exit: VCPUExit) {
        self = nvmm_x86_exit()
        reason = exit.reason.code
        switch exit.reason {
        case .none, .shutdown, .interruptReady, .nmiReady, .halted, .tprChanged, .stopped: break
        case .memory(let memory):
            unsafe u.mem.prot = Int32(truncatingIfNeeded: memory.access.rawValue)
            unsafe u.mem.gpa = memory.gpa.rawValue
            unsafe u.mem.inst_len = memory.instruction.count
            unsafe withUnsafeMutableBytes(of: &u.mem.inst_bytes) {
                unsafe $0.copyBytes(from: memory.instruction.bytes)
            }
        case .io(let io):
            unsafe u.io.`in` = io.isInput
            unsafe u.io.port = io.port
            unsafe u.io.seg = Int8(io.segment?.rawValue ?? -1)
            unsafe u.io.address_size = io.addressBytes
            unsafe u.io.operand_size = io.operandBytes
            unsafe u.io.rep = io.isRepeated
            unsafe u.io.str = io.isString
            unsafe u.io.npc = io.npc
        case .readMSR(let read):
            unsafe u.rdmsr.msr = read.msr
            unsafe u.rdmsr.npc = read.npc
        case .writeMSR(let write):
            unsafe u.wrmsr.msr = write.msr
            unsafe u.wrmsr.val = write.value
            unsafe u.wrmsr.npc = write.npc
        case .monitor(let npc), .mwait(let npc), .cpuid(let npc): unsafe u.insn.npc = npc
        case .invalid(let code): unsafe u.inv.hwcode = code
        }
        exitstate.rflags = exit.state.rflags
        exitstate.cr8 = exit.state.cr8
        exitstate.int_shadow = exit.state.interrupt.contains(.shadow) ? 1 : 0
        exitstate.int_window_exiting = exit.state.interrupt.contains(.interruptWindowExiting) ? 1 : 0
        exitstate.nmi_window_exiting = exit.state.interrupt.contains(.nmiWindowExiting) ? 1 : 0
        exitstate.evt_pending = exit.state.interrupt.contains(.eventPending) ? 1 : 0
    }
}
