// Collects a profile, event by event.

internal import Histogram
internal import NVMM
internal import Replay
internal import TraceFile

/// Accumulates what ``TraceProfile`` reports.
struct ProfileCollector {
    /// Bins of one row; rows of places are many and have fewer.
    private struct Bins {
        var counts: [UInt32]
        var total: UInt64 = 0

        init(_ count: Int) { counts = [UInt32](repeating: 0, count: count) }

        mutating func count(at bin: Int) {
            total &+= 1
            if counts.indices.contains(bin) { counts[bin] &+= 1 }
        }
    }

    private enum Place: Hashable {
        case port(UInt16, isInput: Bool)
        case msr(UInt32, isWrite: Bool)
        case page(UInt64, access: UInt64)
    }

    private struct Address: Hashable { var rip, base: UInt64 }

    private struct Visits {
        var count: UInt64 = 0
        var instructions: UInt64 = 0
        var guestNanoseconds: UInt64 = 0
        var reasons: [UInt64: UInt64] = [:]
        /// For the disassembly: of the first visit.
        var state: VCPUState
    }

    private struct PairKey: Hashable {
        var reason: UInt64
        var read, written: StateFlags
    }

    /// A guest can make any number of different places and addresses; more are counted with the others only.
    private static let keysMax = 1 << 16

    private var profile = TraceProfile()
    private var reasons: [UInt64: Bins] = [:]
    private var places: [Place: Bins] = [:]
    private var injections: [VCPUEvent: Bins] = [:]
    private var visits: [Address: Visits] = [:]
    private var pairs: [PairKey: UInt64] = [:]
    /// By VCPU: its last exit, and what the VMM did since.
    private var since: [UInt32: PairKey] = [:]
    /// By VCPU: the clock when its event was injected.
    private var injected: [UInt32: UInt64] = [:]
    private var guestTime: Histogram<UInt64>?
    private var vmmTime: Histogram<UInt64>?
    private var delays = Histogram<UInt64>(numberOfSignificantValueDigits: .three)
    private var step: UInt64 = 0
    private var clock: UInt64 = 0

    init(stepCount: UInt64) {
        let most = UInt64(TraceProfile.binsMax)
        profile.stepsPerBin = max(1, stepCount / most + (stepCount % most == 0 ? 0 : 1))
        profile.binCount = Int(stepCount / profile.stepsPerBin + (stepCount % profile.stepsPerBin == 0 ? 0 : 1))
        profile.binClocks = [UInt64](repeating: 0, count: profile.binCount)
        profile.binsPerPlaceBin = max(1, (profile.binCount + TraceProfile.placeBinsMax - 1) / TraceProfile.placeBinsMax)
    }

    private var placeBinCount: Int {
        (profile.binCount + profile.binsPerPlaceBin - 1) / profile.binsPerPlaceBin
    }

    mutating func add(_ event: TraceEvent) {
        switch event {
        case .step(let step): add(step)
        case .call(let call):
            switch call.kind {
            case .getState: since[call.vcpu]?.read.formUnion(call.flags)
            case .setState: since[call.vcpu]?.written.formUnion(call.flags)
            case .inject: injected[call.vcpu] = clock
            case .stop: break
            }
        case .machine(.advanceClock(let ticks)):
            profile.idleTicks &+= ticks
            clock &+= ticks
        case .machine, .memoryWrite, .guestWrite, .keyframe, .loss: break
        }
    }

    private mutating func add(_ step: Step) {
        let bin = Int(clamping: self.step / profile.stepsPerBin)
        if self.step % profile.stepsPerBin == 0, profile.binClocks.indices.contains(bin) {
            profile.binClocks[bin] = clock
        }
        if let known = since.removeValue(forKey: step.vcpu) { pairs[known, default: 0] &+= 1 }
        since[step.vcpu] = PairKey(reason: step.exit.reason.code, read: [], written: [])
        reasons[step.exit.reason.code, default: Bins(profile.binCount)].count(at: bin)
        if let event = step.event {
            if injections[event] != nil || injections.count < 4096 {
                injections[event, default: Bins(profile.binCount)].count(at: bin)
            }
            if let begin = injected.removeValue(forKey: step.vcpu) {
                let entry = step.clock &- (step.retired ?? 0)
                delays.record(Self.bounded(entry &- min(begin, entry)))
            }
        }
        if let place = Self.place(step.exit.reason), places[place] != nil || places.count < Self.keysMax {
            let binCount = placeBinCount
            places[place, default: Bins(binCount)].count(at: bin / profile.binsPerPlaceBin)
        }
        if step.kind == .entered { visit(step) }
        if let time = step.time {
            if guestTime == nil {
                guestTime = Histogram(numberOfSignificantValueDigits: .three)
                vmmTime = Histogram(numberOfSignificantValueDigits: .three)
            }
            guestTime?.record(Self.bounded(time.guestNanoseconds))
            vmmTime?.record(Self.bounded(time.vmmNanoseconds))
        }
        clock = step.clock
        self.step &+= 1
    }

    /// A trace may claim any time; a histogram of larger ones would have no bucket.
    private static func bounded(_ value: UInt64) -> UInt64 { min(value, 1 << 62) }

    private mutating func visit(_ step: Step) {
        let state = step.state
        // A trace of KVM's exits may know no segments.
        let base = step.coverage.contains(.segments) ? state[.cs].base : 0
        let address = Address(rip: state[.rip], base: base)
        guard visits[address] != nil || visits.count < Self.keysMax else { return }
        visits[address, default: Visits(state: state)].count &+= 1
        visits[address]?.instructions &+= step.retired ?? 0
        visits[address]?.guestNanoseconds &+= step.time?.guestNanoseconds ?? 0
        visits[address]?.reasons[step.exit.reason.code, default: 0] &+= 1
    }

    private static func place(_ reason: ExitReason) -> Place? {
        switch reason {
        case .io(let exit): .port(exit.port, isInput: exit.isInput)
        case .memory(let exit): .page(exit.gpa.rawValue & ~0xFFF, access: exit.access.rawValue)
        case .readMSR(let exit): .msr(exit.msr, isWrite: false)
        case .writeMSR(let exit): .msr(exit.msr, isWrite: true)
        default: nil
        }
    }

    // MARK: - The result

    func result(code: RecordedCode?, symbols: SymbolTable?) -> TraceProfile {
        var result = profile
        result.clock = clock
        result.timeline = reasons.sorted { $0.key < $1.key }.map { code, bins in
            TraceProfile.Row(name: Self.name(code), device: nil, count: bins.total, bins: bins.counts)
        }
        result.places = places.map { Self.row($0.key, $0.value) }
            .sorted { ($1.count, $0.name) < ($0.count, $1.name) }.prefix(TraceProfile.placesMax).map { $0 }
        result.injections = injections.map { event, bins in
            TraceProfile.Row(name: Self.name(event), device: nil, count: bins.total, bins: bins.counts)
        }.sorted { $0.name < $1.name }
        result.instructions = visits.sorted {
            ($1.value.count, $0.key.base, $0.key.rip) < ($0.value.count, $1.key.base, $1.key.rip)
        }.prefix(TraceProfile.instructionsMax).map { address, visits in
            let most = visits.reasons.max { ($0.value, $1.key) < ($1.value, $0.key) }
            return TraceProfile.ExitingInstruction(
                rip: address.rip, base: address.base, count: visits.count, instructions: visits.instructions,
                guestNanoseconds: guestTime == nil ? nil : visits.guestNanoseconds,
                reason: Self.name(most?.key ?? 0), text: code?.text(at: visits.state),
                symbol: symbols?.name(of: address.base &+ address.rip))
        }
        result.pairs = pairs.sorted {
            ($1.value, $0.key.reason, $0.key.read.rawValue, $0.key.written.rawValue)
                < ($0.value, $1.key.reason, $1.key.read.rawValue, $1.key.written.rawValue)
        }.prefix(TraceProfile.pairsMax).map { key, count in
            TraceProfile.Pair(
                reason: Self.name(key.reason), read: VCPUState.names(of: key.read),
                written: VCPUState.names(of: key.written),
                count: count)
        }
        result.guestTime = guestTime.flatMap { TraceProfile.Latencies($0) }
        result.vmmTime = vmmTime.flatMap { TraceProfile.Latencies($0) }
        result.injectionDelay = TraceProfile.Latencies(delays)
        return result
    }

    private static func row(_ place: Place, _ bins: Bins) -> TraceProfile.Row {
        func hex(_ number: UInt64) -> String { "0x" + String(number, radix: 16) }
        let (name, device): (String, String?) =
            switch place {
            case .port(let port, let isInput):
                ("\(isInput ? "in" : "out") port \(hex(UInt64(port)))", PlatformNames.device(port: port))
            case .msr(let msr, let isWrite):
                ("\(isWrite ? "WRMSR" : "RDMSR") \(hex(UInt64(msr)))", PlatformNames.msr(msr))
            case .page(let gpa, let access):
                ("\(StatisticsCollector.accessName(access)) gpa \(hex(gpa))", PlatformNames.device(gpa: gpa))
            }
        return TraceProfile.Row(name: name, device: device, count: bins.total, bins: bins.counts)
    }

    private static func name(_ code: UInt64) -> String { ExitReason.name(ofCode: code) ?? "INVALID" }

    private static func name(_ event: VCPUEvent) -> String {
        "\(StatisticsCollector.eventName(event.kind.rawValue)) 0x\(String(event.vector, radix: 16))"
    }
}

extension TraceProfile.Latencies {
    /// - Returns: nil where nothing was recorded.
    init?(_ histogram: Histogram<UInt64>) {
        guard histogram.totalCount > 0 else { return nil }
        count = histogram.totalCount
        minimum = histogram.min
        maximum = histogram.max
        mean = histogram.mean
        percentiles = [50, 90, 99, 99.9].map {
            Percentile(percentile: $0, value: histogram.valueAtPercentile($0))
        }
        octaves = []
        for value in histogram.recordedValues() {
            let octave = 63 - max(value.value, 1).leadingZeroBitCount
            while octaves.count <= octave { octaves.append(0) }
            octaves[octave] &+= value.count
        }
    }
}
