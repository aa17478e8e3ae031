// Between the registers that `struct kvm_run` shows and NVMM's state. Fields: Linux's arch/x86/include/uapi/asm/kvm.h.

#if os(Linux) && arch(x86_64)
    import CKVM
    import NVMM

    extension kvm_sync_regs {
        /// Parts of a state that are found here, XCR0 and all MSRs but EFER excepted.
        static let parts: StateFlags = [.gprs, .segments, .crs, .msrs, .interrupt]

        /// `KVM_SYNC_X86_*` of the structures that hold `flags`.
        static func structures(of flags: StateFlags) -> UInt64 {
            var bits: UInt64 = 0
            if flags.contains(.gprs) { bits |= UInt64(KVM_SYNC_X86_REGS) }
            if !flags.isDisjoint(with: [.segments, .crs, .msrs]) { bits |= UInt64(KVM_SYNC_X86_SREGS) }
            if flags.contains(.interrupt) { bits |= UInt64(KVM_SYNC_X86_EVENTS) }
            return bits
        }

        /// Places of NVMM's registers in `struct kvm_regs`: 18 words.
        private static let generalPlaces: InlineArray<18, Int> = [
            0, 2, 3, 1, 6, 7, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17,
        ]
        /// Order of the segments at the start of `struct kvm_sregs`.
        private static let segmentOrder: InlineArray<8, SegmentRegister> = [
            .cs, .ds, .es, .fs, .gs, .ss, .tr, .ldt,
        ]

        mutating func install(_ flags: StateFlags, from state: VCPUState) {
            if flags.contains(.gprs) {
                unsafe withUnsafeMutableBytes(of: &regs) { words in
                    for index in 0..<18 {
                        unsafe words.storeBytes(
                            of: state.gprs[index], toByteOffset: Self.generalPlaces[index] * 8, as: UInt64.self)
                    }
                }
                regs.rflags |= 2
            }
            if flags.contains(.segments) {
                unsafe withUnsafeMutableBytes(of: &sregs) { bytes in
                    for index in 0..<8 {
                        unsafe bytes.storeBytes(
                            of: kvm_segment(state[Self.segmentOrder[index]]),
                            toByteOffset: index * MemoryLayout<kvm_segment>.stride, as: kvm_segment.self)
                    }
                }
                sregs.gdt = kvm_dtable(state[.gdt])
                sregs.idt = kvm_dtable(state[.idt])
            }
            if flags.contains(.crs) {
                sregs.cr0 = state[.cr0] | 1 << 4  // ET is always set
                sregs.cr2 = state[.cr2]
                sregs.cr3 = state[.cr3]
                sregs.cr4 = state[.cr4]
                sregs.cr8 = state[.cr8] & 0xF
            }
            if flags.contains(.msrs) { sregs.efer = state[.efer] }
            if flags.contains(.interrupt) {
                events.interrupt.shadow =
                    state.interrupt.contains(.shadow) ? UInt8(KVM_X86_SHADOW_INT_MOV_SS) : 0
            }
            // An interrupt on its way is told by the events; here KVM would take it for another one.
            sregs.interrupt_bitmap = (0, 0, 0, 0)
            events.flags = UInt32(KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW)
        }

        func extract(_ flags: StateFlags, into state: inout VCPUState) {
            if flags.contains(.gprs) {
                unsafe withUnsafeBytes(of: regs) { words in
                    for index in 0..<18 {
                        state.gprs[index] = unsafe words.load(
                            fromByteOffset: Self.generalPlaces[index] * 8, as: UInt64.self)
                    }
                }
            }
            if flags.contains(.segments) {
                unsafe withUnsafeBytes(of: sregs) { bytes in
                    for index in 0..<8 {
                        state[Self.segmentOrder[index]] = Segment(
                            unsafe bytes.load(
                                fromByteOffset: index * MemoryLayout<kvm_segment>.stride, as: kvm_segment.self))
                    }
                }
                state[.gdt] = Segment(sregs.gdt)
                state[.idt] = Segment(sregs.idt)
            }
            if flags.contains(.crs) {
                state[.cr0] = sregs.cr0
                state[.cr2] = sregs.cr2
                state[.cr3] = sregs.cr3
                state[.cr4] = sregs.cr4
                state[.cr8] = sregs.cr8
            }
            if flags.contains(.msrs) { state[.efer] = sregs.efer }
        }

        // MARK: Events

        /// An event that the processor still has to deliver.
        var hasEvent: Bool {
            events.exception.injected | events.exception.pending | events.interrupt.injected | events.nmi.injected
                | events.nmi.pending != 0
        }
        var isShadowed: Bool { events.interrupt.shadow != 0 }
        var takesInterrupts: Bool { regs.rflags & 1 << 9 != 0 }
        var takesNMIs: Bool { events.nmi.masked == 0 }

        /// Delivered at the next entry whatever IF, shadow and task priority say, as NVMM does it.
        mutating func inject(_ event: VCPUEvent) {
            events.exception = .init()
            events.interrupt.injected = 0
            events.nmi.injected = 0
            events.nmi.pending = 0
            if event.kind == .exception {
                events.exception.injected = 1
                events.exception.nr = event.vector
                let hasCode = [8, 10, 11, 12, 13, 14, 17, 21, 30].contains(event.vector)
                // Traps and aborts push RF as it is, faults push it set (SDM vol. 3, section 17.3.1.1).
                if ![1, 4, 8, 18].contains(event.vector) { regs.rflags |= 1 << 16 }
                // Real mode pushes none.
                events.exception.has_error_code = hasCode && sregs.cr0 & 1 != 0 ? 1 : 0
                events.exception.error_code = hasCode ? UInt32(truncatingIfNeeded: event.errorCode) : 0
            } else if event.vector == 2 {
                events.nmi.injected = 1
            } else {
                events.interrupt.injected = 1
                events.interrupt.nr = event.vector
                events.interrupt.soft = 0
            }
        }
    }

    extension kvm_segment {
        fileprivate init(_ segment: Segment) {
            let bits = segment.attributes.rawValue
            func bit(_ place: UInt16) -> UInt8 { UInt8(bits >> place & 1) }
            self.init(
                base: segment.base, limit: segment.limit, selector: segment.selector,
                type: segment.attributes.type, present: bit(7), dpl: segment.attributes.dpl, db: bit(10), s: bit(4),
                l: bit(9), g: bit(11), avl: bit(8), unusable: 1 - bit(7), padding: 0)
        }
    }

    extension kvm_dtable {
        fileprivate init(_ segment: Segment) {
            self.init(base: segment.base, limit: UInt16(truncatingIfNeeded: segment.limit), padding: (0, 0, 0))
        }
    }

    extension Segment {
        fileprivate init(_ table: kvm_dtable) {
            // The attributes that a processor has after RESET, and that nothing changes.
            self.init(attributes: VCPUState.reset[.gdt].attributes, limit: UInt32(table.limit), base: table.base)
        }

        fileprivate init(_ segment: kvm_segment) {
            var bits = UInt16(segment.type & 0xF) | UInt16(segment.s & 1) << 4 | UInt16(segment.dpl & 3) << 5
            bits |= UInt16(segment.present & ~segment.unusable & 1) << 7 | UInt16(segment.avl & 1) << 8
            bits |= UInt16(segment.l & 1) << 9 | UInt16(segment.db & 1) << 10 | UInt16(segment.g & 1) << 11
            self.init(
                selector: segment.selector, attributes: SegmentAttributes(rawValue: bits), limit: segment.limit,
                base: segment.base)
        }
    }
#endif
