// What stands at the PC's fixed addresses. Ports: the IBM PC/AT's, PCI 2.3 section 3.2.2.3.2, and QEMU's
// docs/specs/fw_cfg; MSRs: SDM vol. 4, chapter 2; memory: the I/O APIC's and local APIC's reset addresses.

/// Names of the PC's devices by where they are accessed.
public enum PlatformNames {
    /// - Returns: nil for a port that has no fixed device.
    public static func device(port: UInt16) -> String? {
        switch port {
        case 0x00...0x0F, 0x80...0x8F, 0xC0...0xDF: port == 0x80 ? "POST code" : "DMA controller"
        case 0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1: "interrupt controller (8259)"
        case 0x40...0x43, 0x61: "timer (8254)"
        case 0x60, 0x64: "keyboard controller (8042)"
        case 0x70...0x73: "RTC and CMOS"
        case 0x92: "system control port A"
        case 0xB2, 0xB3: "APM control"
        case 0xE9, 0x402: "debug console"
        case 0xF4: "isa-debug-exit"
        case 0x170...0x177, 0x376: "IDE, secondary"
        case 0x1CE, 0x1CF: "Bochs VBE"
        case 0x1F0...0x1F7, 0x3F6: "IDE, primary"
        case 0x2E8...0x2EF, 0x2F8...0x2FF, 0x3E8...0x3EF, 0x3F8...0x3FF: "serial port (16550)"
        case 0x378...0x37A: "parallel port"
        case 0x3B0...0x3DF: "VGA"
        case 0x3F0...0x3F5, 0x3F7: "floppy"
        case 0x510...0x51B: "fw_cfg"
        case 0xCF9: "reset control"
        case 0xCF8...0xCFF: "PCI configuration"
        default: nil
        }
    }

    /// - Returns: nil for one that is not listed here.
    public static func msr(_ number: UInt32) -> String? {
        switch number {
        case 0x10: "IA32_TIME_STAMP_COUNTER"
        case 0x17: "IA32_PLATFORM_ID"
        case 0x1B: "IA32_APIC_BASE"
        case 0x3A: "IA32_FEATURE_CONTROL"
        case 0x8B: "IA32_BIOS_SIGN_ID"
        case 0xCE: "MSR_PLATFORM_INFO"
        case 0xFE: "IA32_MTRRCAP"
        case 0x174...0x176: "IA32_SYSENTER"
        case 0x179: "IA32_MCG_CAP"
        case 0x1A0: "IA32_MISC_ENABLE"
        case 0x200...0x26F: "MTRR"
        case 0x277: "IA32_PAT"
        case 0x2FF: "IA32_MTRR_DEF_TYPE"
        case 0x6E0: "IA32_TSC_DEADLINE"
        case 0x800...0x83F: "x2APIC"
        case 0xC000_0080: "IA32_EFER"
        case 0xC000_0081...0xC000_0084: "SYSCALL"
        case 0xC000_0100...0xC000_0102: "FS/GS base"
        default: nil
        }
    }

    /// - Returns: nil for what may be anything, RAM above all.
    public static func device(gpa: UInt64) -> String? {
        switch gpa {
        case 0xA_0000..<0xC_0000: "VGA memory"
        case 0xC_0000..<0x10_0000: "option ROMs and firmware"
        case 0xFEC0_0000..<0xFEC0_1000: "I/O APIC"
        case 0xFED0_0000..<0xFED0_1000: "HPET"
        case 0xFEE0_0000..<0xFEE0_1000: "local APIC"
        case 0xFFFC_0000...0xFFFF_FFFF: "firmware"
        default: nil
        }
    }
}
