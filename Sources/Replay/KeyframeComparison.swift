// Compares a machine under replay with a keyframe: memory, all VCPUs, and the state that only the backend sees.

internal import NVMM
internal import TraceFile

/// What a keyframe has otherwise than the replay.
struct KeyframeComparison {
    var fields: [ComparedField] = []
    var memory: [MemoryDifference] = []
    var pagesCompared: UInt64 = 0
    /// Pages with bytes that differ, and that depend on a time that was read; and how many bytes.
    var timedPages: [(object: UInt32, page: Int, content: [UInt8])] = []
    var timedBytes: UInt64 = 0

    var isEqual: Bool { fields.isEmpty && memory.isEmpty }

    /// - Parameters:
    ///   - previous: the last keyframe at which everything was equal: pages that neither side touched since need no
    ///     look. Nil: all pages are compared.
    ///   - knowing: the machine whose shadows tell what depends on times.
    init(
        _ machine: ReplayMachine, with keyframe: Keyframe, previous: Keyframe?, reader: TraceReader,
        knowing: ReplayMachine
    ) throws(ReplayError) {
        // Of a hypervisor's recording memory alone is comparable: clocks and private state are its own.
        if !machine.findsPlacesByRegisters { compareState(machine, keyframe) }
        var ranges = MemoryComparison(gpaRanges: machine.gpaRanges)
        for image in keyframe.objects {
            guard let object = machine.objects[image.object], object.byteCount == image.byteCount else {
                add(
                    "object \(image.object) bytes", "\(image.byteCount)",
                    "\(machine.objects[image.object]?.byteCount ?? 0)")
                continue
            }
            let touched = machine.takeTouchedPages(of: image.object)
            let pages = Self.pagesToCompare(image, previous: previous, touched: touched, pageCount: object.pageCount)
            var contents: [Int: PageHash] = [:]
            for reference in image.pages { contents[reference.page] = reference.content }
            for page in pages {
                pagesCompared += 1
                var content: [UInt8]?
                if let hash = contents[page] {
                    do { content = try reader.page(hash) } catch { throw .trace(error) }
                }
                let range = page * pageBytes..<(page + 1) * pageBytes
                guard !object.withBytes(range, { ReplayMachine.equal($0, content) }), !ranges.isFull else { continue }
                let expected = content ?? [UInt8](repeating: 0, count: pageBytes)
                var actual = object.withBytes(range) { $0.array }
                if let dependent = knowing.shadows?.dependent(range, of: image.object, in: knowing) {
                    let places = actual.indices.filter { dependent[$0] && actual[$0] != expected[$0] }
                    for place in places { actual[place] = expected[place] }
                    if !places.isEmpty { timedPages.append((image.object, page, expected)) }
                    timedBytes += UInt64(places.count)
                }
                ranges.compare(
                    object: image.object, offset: range.lowerBound, expected: expected, actual: actual)
            }
        }
        memory = ranges.differences
    }

    private static func pagesToCompare(
        _ image: Keyframe.ObjectImage, previous: Keyframe?, touched: Set<Int>, pageCount: Int
    ) -> [Int] {
        guard let before = previous?.objects.first(where: { $0.object == image.object }) else {
            return Array(0..<pageCount)
        }
        var pages = touched
        // Both lists are ascending; what stands in only one of them changed.
        for change in Set(image.pages).symmetricDifference(before.pages) { pages.insert(change.page) }
        return pages.filter { $0 >= 0 && $0 < pageCount }.sorted()
    }

    private mutating func compareState(_ machine: ReplayMachine, _ keyframe: Keyframe) {
        add("clock", "\(keyframe.clock)", "\(machine.machine.clock)")
        addBytes("machine private state", keyframe.machinePrivateState, machine.machine.savePrivateState())
        add("VCPUs", Self.list(keyframe.vcpus.map(\.id)), Self.list(Array(machine.vcpus.keys)))
        add("memory objects", Self.list(keyframe.objects.map(\.object)), Self.list(Array(machine.objects.keys)))
        if keyframe.gpaRanges != machine.gpaRanges {
            add("memory map", "\(keyframe.gpaRanges.count) ranges", "\(machine.gpaRanges.count) ranges, or others")
        }
        for image in keyframe.vcpus {
            guard let vcpu = machine.vcpus[image.id] else { continue }
            let state = vcpu.saveState()
            let registers =
                StateFields.general(image.state, state) + StateFields.differingSpecial(image.state, state, .all)
            for field in registers { add("VCPU \(image.id) \(field.name)", field.expected, field.actual) }
            addBytes("VCPU \(image.id) private state", image.privateState, vcpu.savePrivateState())
        }
    }

    private mutating func add(_ name: String, _ expected: String, _ actual: String) {
        guard expected != actual else { return }
        fields.append(ComparedField(name: name, expected: expected, actual: actual))
    }

    private mutating func addBytes(_ name: String, _ expected: [UInt8], _ actual: [UInt8]) {
        guard expected != actual else { return }
        add(name + " bytes", "\(expected.count)", "\(actual.count)")
        guard let place = zip(expected, actual).enumerated().first(where: { $0.element.0 != $0.element.1 })?.offset
        else {
            return
        }
        add(
            name + " at byte \(place)", hexBytes(Array(expected[place...].prefix(8))),
            hexBytes(Array(actual[place...].prefix(8))))
    }

    private static func list(_ numbers: [UInt32]) -> String {
        numbers.sorted().map(String.init).joined(separator: " ")
    }
}
