// Guest memory over KVM: objects of this process, and which of them stand in which memory slot.

#if os(Linux) && arch(x86_64)
    import Glibc
    import NVMM

    final class GuestRAM {
        /// `max_ram` of NVMM's capability: 128 GiB.
        static let addressLimit: UInt64 = 128 << 30
        /// NVMM's limit of hva mappings.
        private static let objectsMax = 32
        /// KVM has 509 or more.
        private static let slotsMax = 500

        private let file: KVMMachineFile
        private var objects: [MemoryObject?] = []
        private var ranges: [MappedRange] = []
        /// Pages that the guest wrote through a slot that is gone, by object.
        private var dirtyBefore: [UInt32: Set<Int>] = [:]

        private struct MappedRange {
            var gpa: UInt64
            var byteCount: UInt64
            var object: MemoryObject
            var offset: UInt64
            var protection: Protection
            /// nil where the guest may do nothing: every access exits.
            var slot: UInt32?
        }

        init(_ file: KVMMachineFile) { self.file = file }

        // MARK: Objects

        func createObject(byteCount: Int) throws(MachineError) -> MemoryObject {
            guard byteCount > 0, byteCount % pageBytes == 0 else {
                throw .misaligned(value: UInt64(bitPattern: Int64(byteCount)))
            }
            guard objects.count(where: { $0 != nil }) < Self.objectsMax else { throw .tooMany(limit: Self.objectsMax) }
            guard UInt64(byteCount) <= Self.addressLimit,
                let mapping = unsafe mmap(
                    nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
                unsafe mapping != MAP_FAILED
            else { throw .outOfMemory(byteCount: byteCount) }
            let start = UInt(bitPattern: mapping)
            let object = unsafe MemoryObject(
                ordinal: UInt32(objects.count), byteCount: byteCount, clientAddress: mapping,
                release: { unsafe munmap(UnsafeMutableRawPointer(bitPattern: start), byteCount) })
            objects.append(object)
            return object
        }

        func destroyObject(_ object: MemoryObject) throws(MachineError) {
            try check(object)
            guard !ranges.contains(where: { $0.object === object }) else {
                throw .objectInUse(ordinal: object.ordinal)
            }
            objects[Int(object.ordinal)] = nil
            dirtyBefore[object.ordinal] = nil
        }

        func check(_ object: MemoryObject) throws(MachineError) {
            guard Int(object.ordinal) < objects.count, objects[Int(object.ordinal)] === object else {
                throw .noSuchObject(ordinal: object.ordinal)
            }
        }

        // MARK: Slots

        func map(
            _ object: MemoryObject, offset: Int, gpa: GPA, byteCount: Int, protection: Protection
        ) throws(MachineError) {
            try check(object)
            try object.checkMapping(
                offset: offset, gpa: gpa, byteCount: byteCount,
                mapped: ranges.lazy.map { $0.gpa..<$0.gpa + $0.byteCount }, addressLimit: Self.addressLimit)
            var range = MappedRange(
                gpa: gpa.rawValue, byteCount: UInt64(byteCount), object: object, offset: UInt64(offset),
                protection: protection.intersection([.read, .write, .execute]))
            if protection.contains(.read) {
                let used = Set(ranges.compactMap(\.slot))
                guard let slot = (0..<UInt32(Self.slotsMax)).first(where: { !used.contains($0) }) else {
                    throw .tooMany(limit: Self.slotsMax)
                }
                let host = unsafe UInt64(UInt(bitPattern: object.clientAddress))
                do throws(KVMRefusal) {
                    try file.setSlot(
                        slot, gpa: range.gpa, byteCount: range.byteCount, host: host + range.offset,
                        isReadOnly: !protection.contains(.write))
                } catch { throw MachineError(error) }
                range.slot = slot
            }
            ranges.append(range)
        }

        func unmap(gpa: GPA, byteCount: Int) throws(MachineError) {
            guard
                let place = ranges.firstIndex(where: {
                    $0.gpa == gpa.rawValue && $0.byteCount == UInt64(bitPattern: Int64(byteCount))
                })
            else { throw .noSuchRange(gpa: gpa, byteCount: byteCount) }
            let range = ranges[place]
            if let slot = range.slot {
                let dirty = dirtyPages(of: range)
                do throws(KVMRefusal) { try file.removeSlot(slot) } catch { throw MachineError(error) }
                dirtyBefore[range.object.ordinal, default: []].formUnion(dirty)
            }
            ranges.remove(at: place)
        }

        /// Where `gpa` lies, or nil where nothing is mapped.
        func place(of gpa: UInt64) -> (object: MemoryObject, offset: Int, protection: Protection)? {
            guard let range = ranges.first(where: { gpa &- $0.gpa < $0.byteCount }) else { return nil }
            return (range.object, Int(range.offset + (gpa - range.gpa)), range.protection)
        }

        // MARK: Pages that the guest wrote

        func takeDirtyPages(of object: MemoryObject) -> [Int] {
            var pages = dirtyBefore.removeValue(forKey: object.ordinal) ?? []
            for range in ranges where range.object === object { pages.formUnion(dirtyPages(of: range)) }
            return pages.sorted()
        }

        private func dirtyPages(of range: MappedRange) -> [Int] {
            guard let slot = range.slot, range.protection.contains(.write) else { return [] }
            let count = Int(range.byteCount) / pageBytes
            let first = Int(range.offset) / pageBytes
            // What is not known counts as written.
            guard let bits = try? file.takeDirtyLog(slot, pageCount: count) else {
                return Array(first..<first + count)
            }
            var pages: [Int] = []
            for (index, word) in bits.enumerated() where word != 0 {
                for bit in 0..<64 where word >> UInt64(bit) & 1 != 0 { pages.append(first + index * 64 + bit) }
            }
            return pages
        }
    }

    extension MachineError {
        init(_ refusal: KVMRefusal) { self = .hostRefused(call: refusal.call.rawValue, errno: refusal.errno) }
    }

    extension VCPUError {
        init(_ refusal: KVMRefusal) { self = .hostRefused(call: refusal.call.rawValue, errno: refusal.errno) }
    }
#endif
