// Handlers that are still to be written: each raises #UD.

import NVMM

extension CPU {
    mutating func rol(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func ror(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func rcl(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func rcr(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func shl(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func shr(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func sar(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func shld(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func shrd(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func mul(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func imul(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func imul2(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func imul3(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func div(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func idiv(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func bt(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func bts(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func btr(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func btc(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func bsf(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func bsr(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func aam(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func bound(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func movs(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func cmps(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func stos(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func lods(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func scas(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func daa() {}
    mutating func das() {}
    mutating func aaa() {}
    mutating func aas() {}
    mutating func aad(_ i: borrowing DecodedInstruction) {}
}
