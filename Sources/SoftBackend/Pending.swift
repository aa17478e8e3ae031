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
    mutating func callFar(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func jmpFar(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func retFar(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func iret(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func int1(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func into(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func movToSegment(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func movFromSegment(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func pushSegment(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func popSegment(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func loadFarPointer(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func lldt(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func ltr(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func sldt(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func str(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func lar(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func lsl(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func arpl(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func syscall(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func sysret(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func sysenter(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func sysexit(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func movToCR(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func movFromCR(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func movToDR(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func movFromDR(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func lmsw(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func smsw(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func clts(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func invlpg(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func invd(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func wbinvd(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func cli(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func sti(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func hlt(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func swapgs(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func stac(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func clac(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func monitor(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func mwait(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func xgetbv(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func xsetbv(_ i: borrowing DecodedInstruction) throws(Interruption) { throw .invalidOpcode }
    mutating func daa() {}
    mutating func das() {}
    mutating func aaa() {}
    mutating func aas() {}
    mutating func aad(_ i: borrowing DecodedInstruction) {}
    mutating func softwareInterrupt(_ i: borrowing DecodedInstruction, vector: UInt8) throws(Interruption) { throw .invalidOpcode }
    mutating func verify(_ i: borrowing DecodedInstruction, forWriting: Bool) throws(Interruption) { throw .invalidOpcode }
    mutating func loadTable(_ i: borrowing DecodedInstruction, _ table: SegmentRegister) throws(Interruption) { throw .invalidOpcode }
    mutating func storeTable(_ i: borrowing DecodedInstruction, _ table: SegmentRegister) throws(Interruption) { throw .invalidOpcode }
    mutating func deliverException(_ exception: ProcessorException) -> ExitReason? { .shutdown }
    mutating func deliverEvent(_ event: VCPUEvent) -> ExitReason? { .shutdown }
}
