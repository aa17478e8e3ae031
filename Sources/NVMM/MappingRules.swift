// What `nvmm_gpa_map` asks of a mapping, for every backend alike.

extension MemoryObject {
    /// Checks that a part of this object may be shown at `gpa`.
    ///
    /// - Parameters:
    ///   - mapped: ranges of the guest physical address space that are mapped already.
    ///   - addressLimit: first guest physical address that there is not.
    /// - Throws: ``MachineError/misaligned(value:)``, ``MachineError/outsideObject(offset:byteCount:)``,
    ///   ``MachineError/beyondAddressSpace(gpa:byteCount:)``, ``MachineError/overlaps(gpa:byteCount:)``.
    public func checkMapping(
        offset: Int, gpa: GPA, byteCount: Int, mapped: some Sequence<Range<UInt64>>, addressLimit: UInt64
    ) throws(MachineError) {
        for value in [UInt64(bitPattern: Int64(offset)), gpa.rawValue, UInt64(bitPattern: Int64(byteCount))]
        where value & 0xFFF != 0 {
            throw .misaligned(value: value)
        }
        guard byteCount > 0 else { throw .misaligned(value: 0) }
        guard offset >= 0, offset <= self.byteCount, byteCount <= self.byteCount - offset else {
            throw .outsideObject(offset: offset, byteCount: byteCount)
        }
        guard gpa.rawValue <= addressLimit, UInt64(byteCount) <= addressLimit - gpa.rawValue else {
            throw .beyondAddressSpace(gpa: gpa, byteCount: byteCount)
        }
        let wanted = gpa.rawValue..<gpa.rawValue + UInt64(byteCount)
        guard !mapped.contains(where: wanted.overlaps) else { throw .overlaps(gpa: gpa, byteCount: byteCount) }
    }
}
