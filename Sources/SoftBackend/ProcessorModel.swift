// The processor that guests see: a fixed, versioned table, never the host's.

import NVMM

/// A processor model: what CPUID offers is what the interpreter executes, no more and no less.
public final class ProcessorModel: Sendable {
    /// Name with version, as it stands in traces.
    public let name: String
    let table: [CPUIDEntry]
    let offers1GiBPages: Bool
    /// Bits of CR4 that a guest may set.
    let cr4Mask: UInt64 = CR4.vme | CR4.pvi | CR4.tsd | CR4.de | CR4.pse | CR4.pae | CR4.mce | CR4.pge
        | CR4.osfxsr | CR4.osxmmexcpt | CR4.smep | CR4.smap
    private let decoders: [Decoder]

    init(name: String, table: [CPUIDEntry], offers1GiBPages: Bool) {
        self.name = name
        self.table = table
        self.offers1GiBPages = offers1GiBPages
        decoders = [
            Decoder(codeWidth: 1, realSegments: true), Decoder(codeWidth: 1, realSegments: false),
            Decoder(codeWidth: 2, realSegments: false), Decoder(codeWidth: 3, realSegments: false),
        ]
    }

    func decoder(codeWidth: UInt8, realSegments: Bool) -> Decoder {
        switch codeWidth {
        case 1: decoders[realSegments ? 0 : 1]
        case 2: decoders[2]
        default: decoders[3]
        }
    }

    /// All models, the default first.
    public static let all: [ProcessorModel] = [base]

    public static func named(_ name: String) -> ProcessorModel? { all.first { $0.name == name } }

    /// The base 64-bit instruction set without floating point: integer, system, FXSAVE.
    public static let base = ProcessorModel(name: "base-v1", table: [], offers1GiBPages: true)
}
