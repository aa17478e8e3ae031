// Level `client`: what the guest wrote in a step, so that the trace can be replayed into the VMM with no processor.

internal import NVMM
internal import TraceFile

extension MachineRecording {
    /// After a step, before the client gets control: what differs then from the content that the trace leads to is the
    /// guest's. Page-table bits and pushed frames, which the processor writes for the guest, are among it.
    func logGuestWrites() {
        guard recorder.options.level == .client else { return }
        forEachLedger { ledger in
            let object = ledger.object
            let pages = inner.takeDirtyPages(of: object)
            ledger.noteGuestDirty(pages)
            for change in ledger.takeGuestChanges(in: pages) {
                let write = MemoryWrite(object: object.ordinal, offset: change.offset, bytes: change.bytes)
                recorder.append { (writer) throws(TraceWriteError) in try writer.append(.guestWrite(write)) }
            }
        }
    }
}
