// The CPUID table of one VCPU: the machine's, its own number, and the client's rules.

#if os(Linux) && arch(x86_64)
    import CKVM
    import NVMM

    struct CPUIDConfiguration {
        private static let rulesMax = 32

        private let table: [CPUIDEntry]
        private let vcpu: UInt32
        private var rules: [UInt32: (set: CPUIDRegisters, delete: CPUIDRegisters)] = [:]

        init(table: [CPUIDEntry], vcpu: UInt32) {
            self.table = table
            self.vcpu = vcpu
        }

        /// - Throws: ``VCPUError/unsupportedConfiguration`` for an exit: KVM answers CPUID by itself, always.
        mutating func set(_ rule: CPUIDRule, leaf: UInt32) throws(VCPUError) {
            switch rule {
            case .remove: rules[leaf] = nil
            case .exit: throw .unsupportedConfiguration
            case .mask(let set, let delete):
                try rule.check(leaf: leaf)
                guard rules[leaf] != nil || rules.count < Self.rulesMax else {
                    throw .tooManyCPUIDRules(limit: Self.rulesMax)
                }
                rules[leaf] = (set, delete)
            }
        }

        var structure: ckvm_cpuid {
            var list = ckvm_cpuid()
            let known = table.prefix(Int(CKVM_CPUID_MAX))
            list.count = UInt32(known.count)
            unsafe withUnsafeMutableBytes(of: &list.entries) { bytes in
                let entries = unsafe bytes.assumingMemoryBound(to: kvm_cpuid_entry2.self)
                for (index, entry) in known.enumerated() {
                    var result = entry.registers
                    if entry.leaf == 1 { result.ebx = result.ebx & 0x00FF_FFFF | vcpu << 24 }
                    if let rule = rules[entry.leaf] {
                        result = result.masked(set: rule.set, delete: rule.delete)
                    }
                    let hasSubleaves = CPUIDEntry.hasSubleaves(entry.leaf)
                    unsafe entries[index] = kvm_cpuid_entry2(
                        function: entry.leaf, index: entry.subleaf,
                        flags: hasSubleaves ? UInt32(KVM_CPUID_FLAG_SIGNIFCANT_INDEX) : 0, eax: result.eax,
                        ebx: result.ebx, ecx: result.ecx, edx: result.edx, padding: (0, 0, 0))
                }
            }
            return list
        }
    }
#endif
