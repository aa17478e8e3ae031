// The descriptor of a VM: memory slots, dirty pages, and which MSRs are the VMM's business.

#if os(Linux) && arch(x86_64)
    import CKVM
    import NVMM

    struct KVMMachineFile {
        private let file: KVMFile

        init(_ system: KVMSystem) throws(KVMRefusal) {
            file = try system.createMachine()
            // Three pages for real mode on Intel's processors without unrestricted guests, and one for its page table:
            // below the firmware, where QEMU has them.
            try file.call(.setTSSAddress, 0xFEFF_D000)
            var identityMap: UInt64 = 0xFEFF_C000
            try file.call(.setIdentityMapAddress, with: &identityMap)
            try exitOnForeignMSRs()
        }

        func createVCPU(id: UInt32) throws(KVMRefusal) -> KVMFile { try file.made(.createVCPU, UInt64(id)) }

        // MARK: Memory

        /// - Parameter host: address of the first byte in this process.
        func setSlot(
            _ slot: UInt32, gpa: UInt64, byteCount: UInt64, host: UInt64, isReadOnly: Bool
        ) throws(KVMRefusal) {
            var region = kvm_userspace_memory_region(
                slot: slot,
                flags: UInt32(KVM_MEM_LOG_DIRTY_PAGES) | (isReadOnly ? UInt32(KVM_MEM_READONLY) : 0),
                guest_phys_addr: gpa, memory_size: byteCount, userspace_addr: host)
            try file.call(.setMemoryRegion, with: &region)
        }

        func removeSlot(_ slot: UInt32) throws(KVMRefusal) {
            var region = kvm_userspace_memory_region()
            region.slot = slot
            try file.call(.setMemoryRegion, with: &region)
        }

        /// Pages of a slot that were written since the last call, a bit each.
        func takeDirtyLog(_ slot: UInt32, pageCount: Int) throws(KVMRefusal) -> [UInt64] {
            let words = (pageCount + 63) / 64
            // SAFETY: one bit for each page of the slot, as the kernel writes it; freed at the end.
            let bits = UnsafeMutablePointer<UInt64>.allocate(capacity: words)
            defer { unsafe bits.deallocate() }
            unsafe bits.initialize(repeating: 0, count: words)
            var log = unsafe kvm_dirty_log()
            unsafe log.slot = slot
            unsafe log.dirty_bitmap = UnsafeMutableRawPointer(bits)
            try unsafe file.call(.getDirtyLog, with: &log)
            return unsafe Array(UnsafeBufferPointer(start: bits, count: words))
        }

        // MARK: MSRs

        /// What KVM keeps by itself is what NVMM's state has, TSC and the bases of FS and GS; every other MSR exits.
        private func exitOnForeignMSRs() throws(KVMRefusal) {
            var capability = kvm_enable_cap()
            capability.cap = UInt32(KVM_CAP_X86_USER_SPACE_MSR)
            // KVM_MSR_EXIT_REASON_INVAL, _UNKNOWN and _FILTER
            capability.args.0 = 1 | 2 | 4
            try file.call(.enableCapability, with: &capability)
            let kept: [(base: UInt32, numbers: [UInt32])] = [
                (0x10, [0x10]), (0x174, [0x174, 0x175, 0x176]), (0x277, [0x277]),
                (0xC000_0080, [0xC000_0080, 0xC000_0081, 0xC000_0082, 0xC000_0083, 0xC000_0084]),
                (0xC000_0100, [0xC000_0100, 0xC000_0101, 0xC000_0102]),
            ]
            // SAFETY: a word for each range, of 64 registers; the kernel copies them before the call returns.
            let bitmaps = UnsafeMutablePointer<UInt64>.allocate(capacity: kept.count)
            defer { unsafe bitmaps.deallocate() }
            var filter = kvm_msr_filter()
            filter.flags = UInt32(KVM_MSR_FILTER_DEFAULT_DENY)
            unsafe withUnsafeMutableBytes(of: &filter.ranges) { ranges in
                for (index, range) in kept.enumerated() {
                    let bits = range.numbers.reduce(UInt64(0)) { $0 | 1 << UInt64($1 - range.base) }
                    unsafe (bitmaps + index).initialize(to: bits)
                    let entry = unsafe kvm_msr_filter_range(
                        flags: UInt32(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE), nmsrs: 64, base: range.base,
                        bitmap: UnsafeMutableRawPointer(bitmaps + index).assumingMemoryBound(to: UInt8.self))
                    unsafe ranges.storeBytes(
                        of: entry, toByteOffset: index * MemoryLayout<kvm_msr_filter_range>.stride,
                        as: kvm_msr_filter_range.self)
                }
            }
            try file.call(.setMSRFilter, with: &filter)
        }
    }
#endif
