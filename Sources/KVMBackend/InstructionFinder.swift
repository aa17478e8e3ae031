// Which instruction made an access: by decoding and executing candidates on the interpreter, without effect, until one
// makes that access and leaves those registers.

#if os(Linux) && arch(x86_64)
    import CKVM
    import NVMM
    import SoftBackend

    /// An instruction that makes an access, and the registers before it.
    struct FoundInstruction {
        struct Store {
            var gpa: UInt64
            var byteCount: Int
        }

        var registers: kvm_sync_regs
        var bytes: InstructionBytes
        /// Of IN, OUT, INS and OUTS.
        var port: IOExit?
        /// What the instruction stores.
        var written: [Store]
    }

    final class InstructionFinder {
        private let emulator = InstructionEmulator()
        private var memory: TrialMemory?
        private weak var vcpu: KVMVCPU?
        /// Bytes of the instruction that was found last to end at an address: tried first when it comes again.
        private var lengths: [UInt64: UInt64] = [:]
        private static let lengthsMax = 4096
        /// Pages of this exit, linear and physical: each costs a call.
        private var translated: [(linear: UInt64, gpa: UInt64?)] = []

        /// Before anything else is asked about an exit.
        func look(at vcpu: KVMVCPU) {
            translated.removeAll(keepingCapacity: true)
            guard self.vcpu !== vcpu else { return }
            self.vcpu = vcpu
            memory = TrialMemory(vcpu.machine.memory)
        }

        func firstByte(at rip: UInt64, _ registers: kvm_sync_regs) -> UInt8? {
            var state = VCPUState()
            registers.extract(kvm_sync_regs.parts, into: &state)
            state[.rip] = rip
            return code(state).bytes.first
        }

        // MARK: - An instruction that is still to come

        /// - Returns: the instruction at RIP; nil where it makes another access.
        func instruction(at shown: kvm_sync_regs, making access: GuestAccess) -> FoundInstruction? {
            var state = VCPUState()
            shown.extract(kvm_sync_regs.parts, into: &state)
            guard let outcome = execute(state, making: access) else {
                // What the interpreter cannot execute, no assist will; the exit says what it knows.
                guard case .memory = access.place else { return nil }
                return FoundInstruction(registers: shown, bytes: InstructionBytes(), port: nil, written: [])
            }
            var found = FoundInstruction(
                registers: shown, bytes: outcome.bytes, port: outcome.port, written: outcome.written)
            if let port = outcome.port, port.isString { found.written = destination(of: port, access, state) }
            return found
        }

        /// Where the elements of an INS go, all of one page.
        private func destination(of port: IOExit, _ access: GuestAccess, _ state: VCPUState) -> [FoundInstruction.Store]
        {
            guard port.isInput, case .port(_, let byteCount, let count) = access.place else { return [] }
            let offset = state[.rdi] & port.addressMask
            let total = UInt64(byteCount) * UInt64(count)
            let isBackwards = state[.rflags] & 1 << 10 != 0
            let first = isBackwards ? offset &- (total &- UInt64(byteCount)) : offset
            let linear = linearAddress(.es, first, state)
            var stores: [FoundInstruction.Store] = []
            var done: UInt64 = 0
            while done < total {
                let part = min(total - done, 0x1000 - (linear &+ done) & 0xFFF)
                if let gpa = physicalAddress(linear &+ done, state) {
                    stores.append(.init(gpa: gpa, byteCount: Int(part)))
                }
                done += part
            }
            return stores
        }

        // MARK: - An instruction that is over

        /// - Returns: the shortest instruction that ends in these registers and makes the access.
        func instruction(endingIn shown: kvm_sync_regs, making access: GuestAccess) -> FoundInstruction? {
            var after = VCPUState()
            shown.extract(kvm_sync_regs.parts, into: &after)
            let end = after[.rip]
            let key = linearAddress(.cs, end, after)
            if let known = lengths[key], let found = instruction(known, endingIn: after, shown, making: access) {
                return found
            }
            for shortest in 0...15 as ClosedRange<UInt64> {
                guard var found = instruction(shortest, endingIn: after, shown, making: access) else { continue }
                var length = shortest
                while shortest > 0, let longer = withPrefix(length, endingIn: after, shown, making: access) {
                    found = longer
                    length += 1
                }
                if lengths.count >= Self.lengthsMax { lengths.removeAll(keepingCapacity: true) }
                lengths[key] = length
                return found
            }
            return nil
        }

        /// The same instruction behind an override of a segment that makes no difference: 16-bit code is full of them,
        /// elsewhere the byte is rather the end of the instruction before.
        private func withPrefix(
            _ length: UInt64, endingIn after: VCPUState, _ shown: kvm_sync_regs, making access: GuestAccess
        ) -> FoundInstruction? {
            guard !after[.cs].attributes.contains(.defaultBig), !after[.cs].attributes.contains(.long),
                let longer = instruction(length + 1, endingIn: after, shown, making: access),
                let prefix = longer.bytes.bytes.first, [0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65].contains(prefix)
            else { return nil }
            return longer
        }

        /// - Parameter length: 0 for a repeated instruction with iterations left, where RIP stays.
        private func instruction(
            _ length: UInt64, endingIn after: VCPUState, _ shown: kvm_sync_regs, making access: GuestAccess
        ) -> FoundInstruction? {
            var start = after
            start[.rip] = after[.rip] &- length
            for before in Self.statesBefore(start) {
                guard var outcome = execute(before, making: access) else { continue }
                if let port = outcome.port {
                    // The interpreter stops before a port's instruction; what is left of it is counting.
                    outcome.after = Self.counted(before, port)
                }
                // KVM looks at a count that has come to zero when the instruction begins again, not before.
                if length == 0, before[.rcx] != after[.rcx] { outcome.after[.rip] = after[.rip] }
                guard Self.areSame(outcome.after, after) else { continue }
                var registers = shown
                registers.install(.gprs, from: before)
                return FoundInstruction(
                    registers: registers, bytes: outcome.bytes, port: outcome.port, written: outcome.written)
            }
            return nil
        }

        /// What the registers may have been: nothing else changed, or an address, a count or the stack's pointer.
        private static func statesBefore(_ start: VCPUState) -> [VCPUState] {
            var states = [start]
            for size: UInt64 in [1, 2, 4, 8] {
                let step = start[.rflags] & 1 << 10 != 0 ? 0 &- size : size
                for (source, target) in [(true, false), (false, true), (true, true)] {
                    for isRepeated in [false, true] {
                        var state = start
                        if source { state[.rsi] &-= step }
                        if target { state[.rdi] &-= step }
                        if isRepeated { state[.rcx] &+= 1 }
                        states.append(state)
                    }
                }
                guard size > 1 else { continue }
                for distance in [size, 0 &- size] {
                    var state = start
                    state[.rsp] &+= distance
                    states.append(state)
                }
            }
            return states
        }

        /// Registers after one element of OUTS, or after OUT.
        private static func counted(_ before: VCPUState, _ port: IOExit) -> VCPUState {
            var after = before
            guard port.isString else {
                after[.rip] = port.npc
                return after
            }
            let mask = port.addressMask
            let size = UInt64(port.operandBytes)
            let step = before[.rflags] & 1 << 10 != 0 ? 0 &- size : size
            after.setAddress(.rsi, after[.rsi] &+ step, mask: mask)
            guard port.isRepeated else {
                after[.rip] = port.npc
                return after
            }
            after.setAddress(.rcx, after[.rcx] &- 1, mask: mask)
            if after[.rcx] & mask == 0 { after[.rip] = port.npc }
            return after
        }

        /// RF is no register's business here: instructions clear it, KVM shows it or not.
        private static func areSame(_ left: VCPUState, _ right: VCPUState) -> Bool {
            for register in GPR.allCases where register != .rflags {
                guard left[register] == right[register] else { return false }
            }
            return (left[.rflags] ^ right[.rflags]) & ~(1 << 16) == 0
        }

        // MARK: - One candidate

        private struct Outcome {
            var after: VCPUState
            var bytes: InstructionBytes
            var port: IOExit?
            var written: [FoundInstruction.Store]
        }

        /// - Returns: nil where the bytes at RIP make another access.
        private func execute(_ before: VCPUState, making access: GuestAccess) -> Outcome? {
            guard let memory else { return nil }
            let bytes = code(before)
            guard bytes.count > 0 else { return nil }
            memory.begin()
            var after = before
            do throws(EmulationError) {
                _ = try emulator.execute(bytes, on: &after, in: memory)
            } catch {
                guard case .port(let io) = error, case .port(let port, let byteCount, _) = access.place,
                    io.port == port, io.operandBytes == byteCount, io.isInput != access.isStore
                else { return nil }
                return Outcome(after: before, bytes: bytes, port: io, written: [])
            }
            guard case .memory(let gpa, let byteCount, let value) = access.place else { return nil }
            if access.isStore {
                guard let store = memory.stores.first(where: { !$0.isOpen }), store.gpa == gpa.rawValue,
                    store.byteCount == byteCount, (store.value ^ value) & store.mask == 0
                else { return nil }
            } else {
                guard memory.closedLoads.contains(where: { gpa.rawValue &- $0.gpa < UInt64($0.byteCount) }) else {
                    return nil
                }
            }
            // One iteration of a repeated instruction may leave RIP where it was: the length is then not known.
            let length = after[.rip] &- before[.rip]
            let exact = 1...15 ~= length ? InstructionBytes(bytes.bytes.prefix(Int(length))) : bytes
            return Outcome(
                after: after, bytes: exact, port: nil,
                written: memory.stores.map { .init(gpa: $0.gpa, byteCount: $0.byteCount) })
        }

        private func linearAddress(_ segment: SegmentRegister, _ offset: UInt64, _ state: VCPUState) -> UInt64 {
            let isWide = state[.efer] & 1 << 10 != 0 && state[.cs].attributes.contains(.long)
            return isWide ? offset : (state[segment].base &+ offset) & 0xFFFF_FFFF
        }

        private func physicalAddress(_ linear: UInt64, _ state: VCPUState) -> UInt64? {
            guard state[.cr0] >> 31 & 1 != 0 else { return linear }
            let page = linear & ~0xFFF
            if let known = translated.first(where: { $0.linear == page }) {
                return known.gpa.map { $0 | linear & 0xFFF }
            }
            let gpa = vcpu?.file.translate(page)
            translated.append((page, gpa))
            return gpa.map { $0 | linear & 0xFFF }
        }

        /// Up to 15 bytes at RIP; fewer where the page after is not there.
        private func code(_ state: VCPUState) -> InstructionBytes {
            var bytes = InstructionBytes()
            var page: (linear: UInt64, gpa: UInt64)?
            for index in 0..<15 as Range<UInt64> {
                let linear = linearAddress(.cs, state[.rip] &+ index, state)
                if page?.linear != linear & ~0xFFF {
                    guard let gpa = physicalAddress(linear & ~0xFFF, state) else { return bytes }
                    page = (linear & ~0xFFF, gpa)
                }
                guard let page, let byte = memory?.loadPlain(GPA(page.gpa + linear & 0xFFF), byteCount: 1) else {
                    return bytes
                }
                bytes.append(UInt8(truncatingIfNeeded: byte))
            }
            return bytes
        }
    }

    /// Guest memory that is read and never written; what is no memory reads as zero.
    private final class TrialMemory: EmulatedMemory {
        struct Store {
            var gpa: UInt64
            var value: UInt64
            var byteCount: Int
            /// Whether the guest may write there without an exit.
            var isOpen: Bool
            var mask: UInt64 { byteCount >= 8 ? .max : 1 << UInt64(byteCount * 8) - 1 }
        }

        private let memory: GuestRAM
        private(set) var stores: [Store] = []
        private(set) var closedLoads: [(gpa: UInt64, byteCount: Int)] = []

        init(_ memory: GuestRAM) { self.memory = memory }

        func begin() {
            stores.removeAll(keepingCapacity: true)
            closedLoads.removeAll(keepingCapacity: true)
        }

        func load(_ gpa: GPA, byteCount: Int) -> UInt64 {
            if let value = loadPlain(gpa, byteCount: byteCount) { return value }
            closedLoads.append((gpa.rawValue, byteCount))
            return 0
        }

        func loadPlain(_ gpa: GPA, byteCount: Int) -> UInt64? {
            guard let place = memory.place(of: gpa.rawValue), place.protection.contains(.read),
                byteCount <= place.object.byteCount - place.offset
            else { return nil }
            return place.object.withBytes(place.offset..<place.offset + byteCount) { span in
                var value: UInt64 = 0
                // SAFETY: the indices are those of the span.
                for index in (0..<byteCount).reversed() {
                    value = value << 8 | UInt64(unsafe span.unsafeLoad(fromByteOffset: index, as: UInt8.self))
                }
                return value
            }
        }

        func store(_ gpa: GPA, _ value: UInt64, byteCount: Int) {
            let isOpen = memory.place(of: gpa.rawValue)?.protection.contains(.write) ?? false
            stores.append(Store(gpa: gpa.rawValue, value: value, byteCount: byteCount, isOpen: isOpen))
        }
    }
#endif
