// The host processor behind the oracle's door: batches of cases run in a child process (Tests/CHostOracle).

import CHostOracle
import NVMM
import SoftBackend

/// The host as an oracle. Not shared between threads.
@safe final class HostOracle {
    private let oracle: OpaquePointer
    /// Modes that this host can run; for the others, why not.
    let support: [CodeMode: String?]

    /// - Returns: nil where the child cannot be started.
    init?() {
        guard let oracle = unsafe host_oracle_open() else { return nil }
        unsafe self.oracle = unsafe oracle
        // SAFETY: the support record is a plain value; its texts end with a zero within 80 bytes (snprintf).
        let record = unsafe host_oracle_support(oracle)
        func text<Characters>(_ characters: Characters) -> String {
            unsafe withUnsafeBytes(of: characters) { unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        }
        support = [
            .bits64: record.mode64 != 0 ? nil : text(record.reason64),
            .bits32: record.mode32 != 0 ? nil : text(record.reason32),
            .bits16: record.mode16 != 0 ? nil : text(record.reason16),
        ]
        unsafe host_oracle_code(oracle).update(repeating: 0xF4, count: Window.byteCount)
        let pristine: UnsafeMutablePointer<UInt8> = unsafe host_oracle_pristine(oracle)
        for (index, byte) in Self.pristine.enumerated() { unsafe pristine[index] = byte }
    }

    deinit { unsafe host_oracle_close(oracle) }

    /// The model with the most instructions, under the host's vendor, which decides where processors differ and may.
    static var model: ProcessorModel { .baseV6.ofVendor(vendor) }
    static var vendor: String {
        let leaf = host_oracle_cpuid(0).registers
        let bytes = [leaf.1, leaf.3, leaf.2].flatMap { word in
            (0..<4).map { UInt8(truncatingIfNeeded: word >> ($0 * 8)) }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Whether the x87 unit tells of its last instruction also where that raised no exception: those of AMD do not.
    static let keepsInstructionPointer = vendor == "GenuineIntel"

    static let hasAVX = offers(.avx)

    /// Whether the host's CPUID offers an extension.
    static func offers(_ feature: CPUFeature) -> Bool {
        let (leaf, register, bit) = feature.place
        let found = host_oracle_cpuid(leaf).registers
        return [found.0, found.1, found.2, found.3][register] >> UInt32(bit) & 1 != 0
    }

    func runs(_ mode: CodeMode) -> Bool { support[mode] == .some(nil) }

    /// What the data window holds before the patches of a case: the same on the host and in the guest.
    static let pristine: [UInt8] = (0..<Window.byteCount).map { UInt8(truncatingIfNeeded: ($0 &* 167) >> 3 ^ $0 &* 29) }

    /// Runs up to ``Window/casesMax`` cases; the i-th stands in slot `firstSlot` + i, and HLT in all others.
    ///
    /// - Returns: an outcome for each that ran; fewer than asked for where one hung or killed the child.
    func run(_ cases: ArraySlice<OracleCase>, firstSlot: Int = 0) -> [OracleOutcome] {
        precondition(firstSlot >= 0 && firstSlot + cases.count <= Window.casesMax)
        let places: UnsafeMutablePointer<host_case> = unsafe host_oracle_cases(oracle)
        let code: UnsafeMutablePointer<UInt8> = unsafe host_oracle_code(oracle)
        unsafe code.update(repeating: 0xF4, count: Window.byteCount)
        for (slot, test) in cases.enumerated() {
            // SAFETY: firstSlot + slot < casesMax, code is cut to its slot, patches to their room by the generator's
            // contract, which the preconditions hold.
            let slotStart = unsafe code + (firstSlot + slot) * Window.slotBytes
            precondition(test.code.count <= Window.slotBytes - Window.slotEntry && test.patches.count <= 3)
            for (index, byte) in test.code.enumerated() { unsafe slotStart[Window.slotEntry + index] = byte }
            unsafe Self.store(test, to: places + slot)
        }
        let ran = Int(unsafe host_oracle_run(oracle, UInt32(cases.count), 4000))
        let results: UnsafePointer<host_result> = unsafe host_oracle_results(oracle)
        return zip(cases, 0..<ran).map { test, slot in
            unsafe Self.load(results + slot, after: test, slot: slot)
        }
    }

    /// SAFETY: `place` is one of the mailbox's cases; its arrays have the sizes that the header declares.
    @unsafe private static func store(_ test: OracleCase, to place: UnsafeMutablePointer<host_case>) {
        unsafe withUnsafeMutableBytes(of: &place.pointee.gprs) { target in
            for index in 0..<16 {
                unsafe target.storeBytes(of: test.state.gprs[index], toByteOffset: index * 8, as: UInt64.self)
            }
        }
        unsafe place.pointee.rip = test.state.rip
        unsafe place.pointee.rflags = test.state.rflags
        unsafe place.pointee.cs = test.state.cs
        unsafe place.pointee.ss = test.state.ss
        unsafe place.pointee.ds = test.state.ds
        unsafe place.pointee.es = test.state.es
        unsafe withUnsafeMutableBytes(of: &place.pointee.fpu) { target in
            unsafe withUnsafeBytes(of: test.state.fpu) { image in
                unsafe target.copyMemory(from: UnsafeRawBufferPointer(rebasing: image.prefix(target.count)))
            }
        }
        unsafe withUnsafeMutableBytes(of: &place.pointee.ymm) { target in
            for index in 0..<16 {
                unsafe target.storeBytes(of: test.state.ymm[index], toByteOffset: index * 16, as: SIMD16<UInt8>.self)
            }
        }
        unsafe withUnsafeMutableBytes(of: &place.pointee.patches) { target in
            let stride = MemoryLayout<host_patch>.stride
            for index in 0..<3 {
                let patch = index < test.patches.count ? test.patches[index] : OraclePatch(offset: 0, bytes: [])
                precondition(patch.bytes.count <= Int(HOST_PATCH_BYTES))
                unsafe target.storeBytes(of: patch.offset, toByteOffset: index * stride, as: UInt16.self)
                unsafe target[index * stride + 2] = UInt8(patch.bytes.count)
                for (place, byte) in patch.bytes.enumerated() { unsafe target[index * stride + 3 + place] = byte }
            }
        }
    }

    /// SAFETY: as ``store(_:to:)``.
    @unsafe private static func load(
        _ place: UnsafePointer<host_result>, after test: OracleCase, slot: Int
    ) -> OracleOutcome {
        var outcome = OracleOutcome()
        unsafe withUnsafeBytes(of: place.pointee.gprs) { source in
            for index in 0..<16 {
                outcome.state.gprs[index] = unsafe source.load(fromByteOffset: index * 8, as: UInt64.self)
            }
        }
        outcome.state.rip = unsafe place.pointee.rip
        outcome.state.rflags = unsafe place.pointee.rflags
        outcome.state.cs = unsafe place.pointee.cs
        outcome.state.ss = unsafe place.pointee.ss
        outcome.state.ds = unsafe place.pointee.ds
        outcome.state.es = unsafe place.pointee.es
        unsafe withUnsafeMutableBytes(of: &outcome.state.fpu) { target in
            unsafe withUnsafeBytes(of: place.pointee.fpu) { image in unsafe target.copyMemory(from: image) }
        }
        unsafe withUnsafeBytes(of: place.pointee.ymm) { source in
            for index in 0..<16 {
                outcome.state.ymm[index] = unsafe source.loadUnaligned(
                    fromByteOffset: index * 16, as: SIMD16<UInt8>.self)
            }
        }
        outcome.vector = unsafe place.pointee.vector
        outcome.errorCode = unsafe place.pointee.error_code
        outcome.cr2 = unsafe place.pointee.cr2
        outcome.changeCount = Int(unsafe place.pointee.change_count)
        unsafe withUnsafePointer(to: place.pointee.changes) { tuple in
            unsafe tuple.withMemoryRebound(to: host_change.self, capacity: Int(HOST_CHANGES_MAX)) { changes in
                for index in 0..<min(outcome.changeCount, Int(HOST_CHANGES_MAX)) {
                    outcome.changes.append(
                        OracleChange(offset: unsafe changes[index].offset, value: unsafe changes[index].value))
                }
            }
        }
        outcome.normalize(after: test)
        return outcome
    }
}

extension OracleOutcome {
    /// A case that came to a HLT other than at its start ran to its end: #GP(0) there is the harness's, not the code's.
    mutating func normalize(after test: OracleCase) {
        if vector == 13, errorCode == 0, state.rip != test.state.rip || test.code.first == 0xF4 && test.code.count > 1 {
            vector = nil
            // The fault set RF in the image that was saved (SDM vol. 3, 18.3.1.1); the code itself did not.
            state.rflags &= ~UInt64(1 << 16)
        }
        if vector != 14 { cr2 = 0 }
    }
}
