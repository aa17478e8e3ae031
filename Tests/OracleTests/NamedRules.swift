// What the soft backend promises, rule by rule, with the test that holds each.

struct NamedRule: Sendable {
    var rule: String
    var test: String
    var file: String
    init(_ rule: String, _ test: String, _ file: String) {
        self.rule = rule
        self.test = test
        self.file = file
    }
}

enum NamedRules {
    static let all: [NamedRule] = processor + commPage + exits + injection

    private static let tcg = "the system behaves as TCG does, at every stop point"
    private static func image(_ rule: String, _ image: String) -> NamedRule {
        NamedRule("\(rule) (image \(image))", tcg, "TCGOracleTests.swift")
    }

    private static func vendor(_ subject: String, _ test: String, _ file: String = "VendorTests.swift") -> NamedRule {
        NamedRule("\(subject) as the vendor has it that CPUID names", test, file)
    }

    // MARK: - The processor

    private static let processor: [NamedRule] = [
        NamedRule(
            "user-mode instructions", "user-mode instructions do what the host processor does",
            "HostOracleTests.swift"),
        NamedRule(
            "what CPUID does not offer raises #UD",
            "an instruction that CPUID does not offer raises #UD, or is the older one", "HostOracleTests.swift"),
        NamedRule(
            "segment limits, types and null segments in user mode",
            "user-mode instructions do what the host processor does", "HostOracleTests.swift"),
        image("real mode: IVT, INT, IRET, faults, TF", "real"),
        NamedRule(
            "interrupts through the IVT", "INT in real mode pushes FLAGS, CS and IP and clears IF, TF and AC",
            "RealModeInterruptTests.swift"),
        image("interrupt and trap gates, 16 and 32 bits", "gates"),
        NamedRule(
            "32-bit interrupt gate", "a 32-bit interrupt gate pushes EFLAGS, CS and EIP and clears IF",
            "InterruptGateTests.swift"),
        NamedRule("32-bit trap gate", "a 32-bit trap gate keeps IF", "InterruptGateTests.swift"),
        NamedRule(
            "16-bit gates", "a 16-bit gate pushes words and uses 16 bits of its offset", "InterruptGateTests.swift"),
        image("task gates, task switch by JMP, CALL, INT, IRET, 16 and 32 bits", "tasks"),
        image("64-bit interrupt and trap gates, IST", "long"),
        NamedRule(
            "64-bit gates", "a 64-bit gate aligns the stack and always pushes SS and RSP",
            "LongModeInterruptTests.swift"),
        NamedRule(
            "interrupt stack table", "a gate with an IST switches the stack at the same level and keeps SS",
            "LongModeInterruptTests.swift"),
        NamedRule(
            "privilege change with the stack of the TSS",
            "a gate to an inner level takes the stack from the TSS and pushes the old one", "InterruptGateTests.swift"),
        NamedRule(
            "privilege change in long mode", "an inner level takes RSP from the TSS and a null SS",
            "LongModeInterruptTests.swift"),
        image("#DE #BP #OF #BR #UD #NM #NP #SS #GP #TS with error codes", "gates"),
        image("#PF with error code and CR2, A, D, WP, PSE, PAE, NX, SMEP, SMAP, INVLPG", "paging"),
        image("4-level paging, 1 GiB pages, NX, canonical addresses", "long"),
        NamedRule(
            "reserved bits of page tables", "a reserved bit in a page table gives error code 9",
            "ManualDecisionTests.swift"),
        NamedRule(
            "#AC", "a misaligned access at CPL 3 is #AC with 0, at CPL 0 it is none", "ManualDecisionTests.swift"),
        image("#DB: TF, data and instruction breakpoints, RF", "debug"),
        image("double fault", "gates"),
        image("double fault through IST", "long"),
        NamedRule(
            "double fault from a short IDT", "IDTR without room for #GP but for #DF gives a double fault",
            "RealModeInterruptTests.swift"),
        NamedRule("triple fault", "a triple fault exits with SHUTDOWN", "ExitConformanceTests.swift"),
        image("virtual-8086 mode, IOPL-sensitive instructions", "vm86"),
        NamedRule("IRET at CPL 3 and VM", "IRET at CPL 3 leaves VM alone", "ManualDecisionTests.swift"),
        image("call gates, conforming code, far returns to outer levels, I/O permission map", "gates"),
        image("SYSCALL, SYSRET, SYSENTER, SWAPGS", "long"),
        NamedRule("SYSEXIT", "SYSEXIT returns to CPL 3 with RCX and RDX", "ExitTests.swift"),
        image("LAR, LSL, VERR, VERW, ARPL, LLDT, LTR, SLDT, STR, SGDT, SIDT", "gates"),
        NamedRule("writes to CR4 that must fault", "clearing CR4.PAE in long mode is #GP", "ManualDecisionTests.swift"),
        NamedRule(
            "writes to CR0 that must fault", "CR0 with PG and without PE is #GP, as is NW without CD",
            "ManualDecisionTests.swift"),
        NamedRule(
            "writes to MSRs that must fault", "changing EFER.LME while paging is on is #GP", "ManualDecisionTests.swift"
        ),
        NamedRule(
            "VEX in real mode", "an instruction encoded by VEX is #UD in real mode, and one in protected mode",
            "BitManipulationTests.swift"),
        NamedRule(
            "CR4.FSGSBASE",
            "FS and GS bases are not moved without CR4's bit, nor in compatibility mode", "BitManipulationTests.swift"),
        vendor("CPUID", "CPUID names the vendor, and beyond its leaves has their way"),
        vendor("BOUND", "BOUND below the first bound does not need the second on Intel's"),
        vendor("near CALL", "a near CALL to a target that is refused leaves the return address on Intel's"),
        vendor("ENTER", "ENTER at the bottom of a 16-bit stack borrows from ESP on Intel's"),
        vendor("MOVSXD", "MOVSXD to 16 bits reads as many on Intel's"),
        vendor("PUSH and POP of segments", "PUSH and POP of a segment move 16 of 32 bits on Intel's"),
        vendor(
            "repetition by ECX in 64-bit mode",
            "a repetition by ECX that has nothing to do clears the upper half of RCX on Intel's"),
        vendor("repeated CMPS and SCAS", "a fault in a repeated comparison restores the flags on Intel's"),
        vendor("SHA", "SHA instructions need memory to be aligned on Intel's", "VendorFloatTests.swift"),
        vendor(
            "DPPS and DPPD", "DPPD and DPPS keep each lane's own NaN on Intel's, the first one on AMD's",
            "VendorFloatTests.swift"),
        vendor(
            "x87 stores", "a store of the FPU that has nothing to store does not look at memory on Intel's",
            "VendorFloatTests.swift"),
        vendor(
            "FPREM, FPREM1 and FSCALE", "a number that FPREM and FSCALE give back is not too small on Intel's",
            "VendorFloatTests.swift"),
        vendor("FSIN", "the sine of a small angle is a little smaller on AMD's", "VendorFloatTests.swift"),
        NamedRule(
            "near CALL: target, then push, where CPUID does not name Intel",
            "a near CALL beyond the limit is #GP, also where the push would fault", "ManualDecisionTests.swift"),
        NamedRule(
            "far CALL: room, target, then pushes",
            "a far CALL with room for one word is #SS, whatever its target, and pushes nothing",
            "ManualDecisionTests.swift"),
        NamedRule(
            "STI and MOV SS shadow", "STI and MOV SS cast a shadow over one instruction",
            "WindowAndInjectionTests.swift"),
        NamedRule(
            "NMI blocking until IRET", "injecting an NMI arms its window, which opens at the IRET",
            "WindowConformanceTests.swift"),
        NamedRule("FPU state", "FPU state is saved, restored and initialised", "ExitTests.swift"),
        NamedRule("FPU arithmetic", "arithmetic of the FPU raises #UD and is counted by name", "ExitTests.swift"),
        NamedRule("budget exact, also in mid-REP", "a budget ends between two iterations", "StringTests.swift"),
        NamedRule(
            "where runs are cut changes nothing to system code",
            "a system image run twice, in runs of a few instructions, stops in the same states",
            "TCGOracleTests.swift"),
        NamedRule("self-modifying code", "a store into the next instruction is seen", "SelfModifyingCodeTests.swift"),
        NamedRule("TSC", "RDTSC counts instructions and advances", "ExitTests.swift"),
    ]

    // MARK: - Section 3: the comm page

    private static let commPage: [NamedRule] = [
        NamedRule(
            "RESET state, cached is ALL after create", "a new VCPU has the RESET state, all cached",
            "CommPageProtocolTests.swift"),
        NamedRule("early return consumes nothing", "stop before a run consumes nothing", "CommPageProtocolTests.swift"),
        NamedRule(
            "early return: exit state is zero", "a run that returns early says nothing about the state",
            "ExitConformanceTests.swift"),
        NamedRule(
            "commit before event", "an injected event enters after the committed registers",
            "WindowConformanceTests.swift"),
        NamedRule(
            "cached is reset at each run", "a run forgets what was cached, committed parts included",
            "CommPageProtocolTests.swift"),
        NamedRule(
            "setstate snapshots nothing", "state edited after setstate is committed as it stands at the run",
            "CommPageProtocolTests.swift"),
        NamedRule(
            "getstate calls for what is not cached only", "getstate costs a system call only for what is not cached",
            "CommPageProtocolTests.swift"),
        NamedRule(
            "a bad event fails the run", "a bad event fails the run after the commit, and is consumed",
            "CommPageProtocolTests.swift"),
        NamedRule("one event slot", "a later inject replaces the event", "WindowConformanceTests.swift"),
        NamedRule(
            "IO caches GPRS, SEGS, CRS, MSRS", "OUT exits with its port, its byte and the next RIP",
            "CommPageProtocolTests.swift"),
        NamedRule(
            "MEMORY caches GPRS, SEGS, CRS, MSRS",
            "a load, a store and a fetch of unmapped memory exit as READ, WRITE and EXEC", "ExitTests.swift"),
        NamedRule(
            "RDMSR, WRMSR cache GPRS", "RDMSR and WRMSR exit for registers that the backend does not handle",
            "ExitConformanceTests.swift"),
        NamedRule("other exits cache nothing", "HLT exits with RIP behind it", "ExitConformanceTests.swift"),
    ]

    // MARK: - Section 4: exits

    private static let exits: [NamedRule] = [
        NamedRule("NONE", "an exhausted budget exits with NONE", "ExitTests.swift"),
        NamedRule("STOPPED", "stop before a run consumes nothing", "CommPageProtocolTests.swift"),
        NamedRule(
            "MEMORY", "a store to unmapped memory exits with the byte's GPA and the instruction",
            "CommPageProtocolTests.swift"),
        NamedRule(
            "MEMORY by protection", "a store to a GPA that is mapped read-only exits as WRITE, a load does not",
            "ExitConformanceTests.swift"),
        NamedRule("IO, IN", "IN exits for each size, with the next RIP", "ExitConformanceTests.swift"),
        NamedRule("IO, OUT", "OUT exits for each size, with the next RIP", "ExitConformanceTests.swift"),
        NamedRule("IO, strings", "string I/O exits with segment, sizes and REP", "ExitConformanceTests.swift"),
        NamedRule(
            "RDMSR and WRMSR", "RDMSR and WRMSR exit for registers that the backend does not handle",
            "ExitConformanceTests.swift"),
        NamedRule("CPUID", "CPUID exits with the default result in the registers", "ExitTests.swift"),
        NamedRule("MONITOR and MWAIT", "MONITOR and MWAIT exit at the instruction", "ExitTests.swift"),
        NamedRule("HALTED", "HLT exits with RIP behind it", "ExitConformanceTests.swift"),
        NamedRule(
            "HALTED with an armed window", "HLT with an armed window and IF set reports HALTED alone, and disarms",
            "WindowConformanceTests.swift"),
        NamedRule(
            "INT_READY", "an interrupt window opens once IF is set and the shadow of STI is over",
            "WindowConformanceTests.swift"),
        NamedRule(
            "NMI_READY", "injecting an NMI arms its window, which opens at the IRET", "WindowConformanceTests.swift"),
        NamedRule("TPR_CHANGED", "MOV to CR8 exits with TPR_CHANGED, RIP behind it", "ExitTests.swift"),
        NamedRule("SHUTDOWN", "a triple fault exits with SHUTDOWN", "ExitConformanceTests.swift"),
        NamedRule("INVALID", "WBINVD passes and INVD exits as NVMM has it", "ExitTests.swift"),
        NamedRule("#UD by NVMM's kernel", "instructions that NVMM's kernel refuses raise #UD", "ExitTests.swift"),
        NamedRule("exit state", "exit state carries RFLAGS and CR8", "ExitConformanceTests.swift"),
    ]

    private static let injection: [NamedRule] = [
        NamedRule(
            "injection asks nothing", "injection asks neither IF nor the shadow nor TPR",
            "WindowConformanceTests.swift"),
        NamedRule(
            "error code by vector", "the error code is pushed for the vectors that have one, and ignored for others",
            "WindowConformanceTests.swift"),
        NamedRule(
            "RF of injected exceptions", "an injected exception pushes RF but for traps and aborts",
            "WindowConformanceTests.swift"),
        NamedRule(
            "NMI arms its window", "injecting an NMI arms its window, which opens at the IRET",
            "WindowConformanceTests.swift"),
        NamedRule(
            "INTR state rewrites windows and shadow",
            "committing the interrupt part rewrites both windows and the shadow", "WindowConformanceTests.swift"),
        NamedRule(
            "pending events come again",
            "an event whose delivery meets unmapped memory stays pending and comes again by itself",
            "WindowAndInjectionTests.swift"),
    ]
}
