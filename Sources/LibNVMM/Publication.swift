// What a tracer in the same process reads of each run: `struct nvmm_publication` of <nvmm_publication.h>.

import CNVMM
import NVMM

/// The publication of one VCPU, in the part of its comm page that `struct nvmm_comm_page` leaves free.
///
/// SAFETY: the page is kept by the object held here; the structure lies within it (a precondition of init). Only the
/// thread that runs the VCPU writes, but for the two counts of calls.
@safe struct Publication {
    enum RunKind: UInt32 { case none, early, entered, refused }

    private let page: CommPage
    private let place: UnsafeMutablePointer<nvmm_publication>

    init(_ page: CommPage) {
        let offset = Int(NVMM_PUBLICATION_OFFSET)
        precondition(offset + MemoryLayout<nvmm_publication>.size <= pageBytes)
        self.page = page
        unsafe place = (page.address + offset).bindMemory(to: nvmm_publication.self, capacity: 1)
        unsafe place.initialize(to: nvmm_publication())
        unsafe place.pointee.version = UInt32(NVMM_PUBLICATION_VERSION)
    }

    func count(_ cost: CallCost) {
        switch cost {
        case .systemCall: unsafe place.pointee.calls_made &+= 1
        case .commPage: unsafe place.pointee.calls_avoided &+= 1
        }
    }

    func advanced(by ticks: UInt64) { unsafe place.pointee.clock_advanced &+= ticks }

    func note(_ kind: RunKind, commit: StateFlags, event: VCPUEvent?, retired: UInt64, clock: UInt64) {
        unsafe place.pointee.run_kind = kind.rawValue
        unsafe place.pointee.runs &+= 1
        unsafe place.pointee.calls_made &+= 1
        unsafe place.pointee.retired &+= retired
        unsafe place.pointee.clock = clock
        unsafe place.pointee.commit_consumed = commit.rawValue
        unsafe place.pointee.event_consumed = event == nil ? 0 : 1
        if let event {
            unsafe place.pointee.event.type = event.kind.rawValue
            unsafe place.pointee.event.vector = event.vector
            unsafe place.pointee.event.u.excp.error = event.errorCode
        }
    }
}
