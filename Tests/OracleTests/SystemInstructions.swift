// Rows of the table that the host cannot check: system instructions, and those that exit.

enum SystemInstructions {
    static let rows: [CoverageRow] =
        images.flatMap { image, instructions in
            instructions.map { name, size, mode in
                CoverageRow(mnemonic: name, size: size, mode: mode, oracle: "TCG: \(image)", cases: stopPoints(image))
            }
        }
        + SystemCaseKind.allCases.map { kind in
            CoverageRow(
                mnemonic: kind.rawValue, size: "all", mode: "64, compatibility", oracle: "TCG at random",
                cases: OracleSettings.systemCases / SystemCaseKind.allCases.count)
        }
        + manual.map { name, size, mode, test in
            CoverageRow(mnemonic: name, size: size, mode: mode, oracle: "manual: \(test)")
        }

    private static func stopPoints(_ image: String) -> Int { (try? SystemImage(image).stops.count) ?? 0 }

    /// Which image executes what.
    private static let images: [(String, [(name: String, size: String, mode: String)])] = [
        ("debug", [("MOV to and from DR", "32", "32")]),
        (
            "gates",
            [
                ("CLI, STI by IOPL", "-", "32"), ("CALL gate", "32", "32"), ("CALL gate, 16-bit", "16", "32"),
                ("CLTS", "-", "32"), ("HLT", "-", "32"), ("INT through gates", "16", "32"),
                ("INT through gates", "32", "32"),
                ("IRETD between levels", "32", "32"), ("LGDT", "-", "16"), ("LIDT", "-", "16"), ("LLDT", "16", "32"),
                ("LTR", "16", "32"), ("MOV to and from CR", "32", "32"), ("RETF between levels", "32", "32"),
                ("SGDT", "-", "32"), ("SIDT", "-", "32"), ("SLDT", "32", "32"), ("SMSW", "32", "32"),
                ("STR", "32", "32"),
            ]
        ),
        (
            "long",
            [
                ("CALL gate", "64", "64"), ("INT through gates", "64", "64"), ("IRETQ between levels", "64", "64"),
                ("LIDT", "-", "64"), ("LTR", "16", "64"), ("MOV to and from CR", "64", "64"),
                ("MOV to and from CR8", "64", "64"),
                ("RDMSR", "32", "64"), ("RETF between segments", "64", "64"), ("SWAPGS", "-", "64"),
                ("SYSCALL", "-", "64"),
                ("SYSENTER", "-", "64"), ("SYSRET", "64", "64"), ("WRMSR", "32", "64"),
            ]
        ),
        (
            "paging",
            [
                ("CLAC", "-", "32"), ("INVLPG", "-", "32"), ("RDMSR", "32", "32"), ("STAC", "-", "32"),
                ("WRMSR", "32", "32"),
            ]
        ),
        (
            "real",
            [
                ("INT through IVT", "16", "16"), ("IRET", "16", "real"), ("LIDT", "-", "real"), ("LMSW", "16", "16"),
                ("POPF", "16", "real"), ("SMSW", "16", "16"),
            ]
        ),
        (
            "tasks",
            [
                ("CALL to TSS", "32", "32"), ("CALL to TSS, 16-bit", "16", "32"), ("INT to task gate", "32", "32"),
                ("IRETD from a nested task", "32", "32"), ("JMP to TSS", "32", "32"),
            ]
        ),
        (
            "vm86",
            [
                ("CLI", "-", "VM86"), ("INT", "16", "VM86"), ("IRET", "16", "VM86"), ("IRETD to VM86", "32", "32"),
                ("POPF", "16", "VM86"), ("PUSHF", "16", "VM86"), ("STI", "-", "VM86"),
            ]
        ),
    ]

    /// What only the manual decides; the test that holds it.
    private static let manual: [(name: String, size: String, mode: String, test: String)] = [
        ("CPUID", "32", "all", "CPUID exits with the default result in the registers"),
        ("HLT", "-", "all", "HLT exits with RIP behind it"),
        ("IN", "8", "all", "IN exits for each size, with the next RIP"),
        ("IN", "16", "all", "IN exits for each size, with the next RIP"),
        ("IN", "32", "all", "IN exits for each size, with the next RIP"),
        ("OUT", "8", "all", "OUT exits with its port, its byte and the next RIP"),
        ("OUT", "16", "all", "OUT exits for each size, with the next RIP"),
        ("OUT", "32", "all", "OUT exits for each size, with the next RIP"),
        ("INS", "8, 16, 32", "all", "string I/O exits with segment, sizes and REP"),
        ("OUTS", "8, 16, 32", "all", "string I/O exits with segment, sizes and REP"),
        ("INT1", "-", "all", "INT3 and INT1 are traps through vectors 3 and 1"),
        ("INVPCID", "64", "64", "INVPCID forgets translations, and refuses what it does not know"),
        ("MONITOR", "-", "all", "MONITOR and MWAIT exit at the instruction"),
        ("MWAIT", "-", "all", "MONITOR and MWAIT exit at the instruction"),
        ("RDTSC", "-", "all", "RDTSC counts instructions and advances"),
        ("RDMSR, exiting", "32", "all", "RDMSR and WRMSR exit for registers that the backend does not handle"),
        ("WRMSR, exiting", "32", "all", "RDMSR and WRMSR exit for registers that the backend does not handle"),
        ("RDPMC, RDTSCP, VMCALL, RDRAND", "-", "all", "instructions that NVMM's kernel refuses raise #UD"),
        ("WBINVD, INVD", "-", "all", "WBINVD passes and INVD exits as NVMM has it"),
        ("FXSAVE, FXRSTOR, FNINIT, FNSTCW, LDMXCSR", "-", "all", "FPU state is saved, restored and initialised"),
        (
            "x87 and SSE arithmetic of models that offer neither", "-", "all",
            "arithmetic of the FPU raises #UD and is counted by name"
        ),
        ("XSAVE, XRSTOR", "32, 64", "all", "XSAVE and XRSTOR keep the components that are asked for"),
        ("XGETBV, XSETBV", "-", "all", "XSETBV takes what CPUID names, and x87 always"),
        ("XSAVE, XRSTOR, XSETBV with AVX", "32, 64", "all", "XSAVE and XRSTOR have a component for the upper halves"),
        ("VLDMXCSR, VSTMXCSR", "32", "all", "VLDMXCSR and VSTMXCSR move MXCSR, without reserved bits"),
        ("RDFSBASE, RDGSBASE", "32, 64", "64", "FS and GS bases are moved where CR4 allows it"),
        ("WRFSBASE, WRGSBASE", "32, 64", "64", "FS and GS bases are moved where CR4 allows it"),
        ("SYSEXIT", "-", "64", "SYSEXIT returns to CPL 3 with RCX and RDX"),
    ]
}
