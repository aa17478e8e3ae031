// Machine events and losses as bytes: Docs/trace-format.md, "Machine events".

import NVMM

extension ByteWriter {
    mutating func machineEvent(_ event: MachineEvent) {
        switch event {
        case .createVCPU(let id):
            byte(0)
            varint(id)
        case .destroyVCPU(let id):
            byte(1)
            varint(id)
        case .configureVCPU(let id, let configuration):
            byte(2)
            varint(id)
            vcpuConfiguration(configuration)
        case .hvaMap(let object, let byteCount):
            byte(3)
            varint(object)
            varint(UInt64(bitPattern: Int64(byteCount)))
        case .hvaUnmap(let object):
            byte(4)
            varint(object)
        case .gpaMap(let range):
            byte(5)
            gpaRange(range)
        case .gpaUnmap(let gpa, let byteCount):
            byte(6)
            varint(gpa.rawValue)
            varint(UInt64(bitPattern: Int64(byteCount)))
        case .advanceClock(let ticks):
            byte(7)
            varint(ticks)
        case .destroy:
            byte(8)
        case .completion(let completion):
            byte(9)
            varint(completion.vcpu)
            byte(completion.kind.rawValue)
            varint(completion.address)
            byte(completion.elementBytes)
            blob(completion.bytes)
        }
    }

    mutating func gpaRange(_ range: GPARange) {
        varint(range.object)
        varint(UInt64(bitPattern: Int64(range.offset)))
        varint(range.gpa.rawValue)
        varint(UInt64(bitPattern: Int64(range.byteCount)))
        varint(range.protection.rawValue)
    }

    private mutating func vcpuConfiguration(_ configuration: VCPUConfiguration) {
        switch configuration {
        case .cpuid(let leaf, .mask(let set, let delete)):
            byte(0)
            varint(leaf)
            registers(set)
            registers(delete)
        case .cpuid(let leaf, .exit):
            byte(1)
            varint(leaf)
        case .cpuid(let leaf, .remove):
            byte(2)
            varint(leaf)
        case .tpr(let exitOnChange):
            byte(3)
            byte(exitOnChange ? 1 : 0)
        }
    }

    mutating func loss(_ loss: Loss) {
        varint(loss.eventCount)
        string(loss.reason)
    }
}

extension ByteReader {
    mutating func machineEvent() throws(TraceError) -> MachineEvent {
        switch try byte() {
        case 0: .createVCPU(id: try varint32())
        case 1: .destroyVCPU(id: try varint32())
        case 2: .configureVCPU(id: try varint32(), try vcpuConfiguration())
        case 3: .hvaMap(object: try varint32(), byteCount: try nonNegative())
        case 4: .hvaUnmap(object: try varint32())
        case 5: .gpaMap(try gpaRange())
        case 6: .gpaUnmap(gpa: GPA(try varint()), byteCount: try nonNegative())
        case 7: .advanceClock(ticks: try varint())
        case 8: .destroy
        case 9: .completion(try completion())
        default: throw failure(.unknownValue)
        }
    }

    private mutating func completion() throws(TraceError) -> Completion {
        let vcpu = try varint32()
        guard let kind = Completion.Kind(rawValue: try byte()) else { throw failure(.unknownValue) }
        let address = try varint()
        let elementBytes = try byte()
        guard (1...8).contains(elementBytes) else { throw failure(.unknownValue) }
        return Completion(
            vcpu: vcpu, kind: kind, address: address, elementBytes: elementBytes, bytes: try blob())
    }

    mutating func gpaRange() throws(TraceError) -> GPARange {
        GPARange(
            object: try varint32(), offset: try nonNegative(), gpa: GPA(try varint()), byteCount: try nonNegative(),
            protection: Protection(rawValue: try varint()))
    }

    private mutating func vcpuConfiguration() throws(TraceError) -> VCPUConfiguration {
        switch try byte() {
        case 0: .cpuid(leaf: try varint32(), .mask(set: try registers(), delete: try registers()))
        case 1: .cpuid(leaf: try varint32(), .exit)
        case 2: .cpuid(leaf: try varint32(), .remove)
        case 3: .tpr(exitOnChange: try byte() != 0)
        default: throw failure(.unknownValue)
        }
    }

    mutating func loss() throws(TraceError) -> Loss { Loss(eventCount: try varint(), reason: try string()) }
}
