// The payload of the header frame: Docs/trace-format.md, "Header frame".

import NVMM

extension TraceHeader {
    func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.varint(0)  // names of required features, one for each bit that is set
        writer.string(tool)
        writer.string(backendName)
        writer.string(processorModel)
        writer.byte(level.rawValue)
        writer.byte(recordsTime ? 1 : 0)
        writer.varint(capability.version)
        writer.varint(capability.stateBytes)
        writer.varint(capability.machinesMax)
        writer.varint(capability.vcpusMax)
        writer.varint(capability.memoryBytesMax)
        writer.varint(capability.xcr0Mask)
        writer.varint(capability.mxcsrMask)
        writer.varint(capability.cpuidEntriesMax)
        writer.byte((capability.offersTPRExits ? 1 : 0) | (capability.countsInstructions ? 2 : 0))
        writer.varint(cpuidTable.count)
        for entry in cpuidTable {
            writer.varint(entry.leaf)
            writer.varint(entry.subleaf)
            writer.registers(entry.registers)
        }
        writer.varint(hidden.count)
        for phrase in hidden { writer.string(phrase) }
        writer.varint(parameters.count)
        for parameter in parameters {
            writer.string(parameter.key)
            writer.string(parameter.value)
        }
        return writer.bytes
    }

    /// - Parameter required: the preamble's bits, to be refused by the names that stand here.
    init(_ bytes: [UInt8], required: UInt64, place: TracePlace) throws(TraceError) {
        var reader = ByteReader(bytes, place: place)
        var names: [String] = []
        for _ in 0..<(try reader.count(max: 64)) { names.append(try reader.string()) }
        var ordinal = 0
        for bit in 0..<64 where required >> UInt64(bit) & 1 != 0 {
            if Preamble.knownFeatures >> UInt64(bit) & 1 == 0 {
                throw .unsupportedFeature(bit: bit, name: ordinal < names.count ? names[ordinal] : "")
            }
            ordinal += 1
        }
        tool = try reader.string()
        backendName = try reader.string()
        processorModel = try reader.string()
        guard let level = RecordLevel(rawValue: try reader.byte()) else { throw reader.failure(.unknownValue) }
        self.level = level
        recordsTime = try reader.byte() & 1 != 0
        capability = Capability(countsInstructions: false)
        capability.version = try reader.varint32()
        capability.stateBytes = try reader.varint32()
        capability.machinesMax = try reader.varint32()
        capability.vcpusMax = try reader.varint32()
        capability.memoryBytesMax = try reader.varint()
        capability.xcr0Mask = try reader.varint()
        capability.mxcsrMask = try reader.varint32()
        capability.cpuidEntriesMax = try reader.varint32()
        let abilities = try reader.byte()
        capability.offersTPRExits = abilities & 1 != 0
        capability.countsInstructions = abilities & 2 != 0
        cpuidTable = []
        for _ in 0..<(try reader.count(max: reader.remaining)) {
            cpuidTable.append(
                CPUIDEntry(
                    leaf: try reader.varint32(), subleaf: try reader.varint32(), registers: try reader.registers()))
        }
        hidden = []
        for _ in 0..<(try reader.count(max: reader.remaining)) { hidden.append(try reader.string()) }
        parameters = []
        for _ in 0..<(try reader.count(max: reader.remaining)) {
            parameters.append(Parameter(key: try reader.string(), value: try reader.string()))
        }
        // Whatever follows was added by a later version and is optional.
    }
}

extension ByteWriter {
    mutating func registers(_ registers: CPUIDRegisters) {
        varint(registers.eax)
        varint(registers.ebx)
        varint(registers.ecx)
        varint(registers.edx)
    }
}

extension ByteReader {
    mutating func registers() throws(TraceError) -> CPUIDRegisters {
        CPUIDRegisters(eax: try varint32(), ebx: try varint32(), ecx: try varint32(), edx: try varint32())
    }
}
