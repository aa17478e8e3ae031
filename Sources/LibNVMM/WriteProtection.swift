// How threads of the client that store into guest memory are held back: Docs/libnvmm.md.

import CClientThreads
import CWriteTracking

enum WriteProtection {
    /// - Parameter name: what `NVMM_WRITE_PROTECTION` says.
    static func choose(_ name: String?) {
        let how: Int32
        switch name {
        case nil, "": how = WRITE_HOLDING_EITHER
        case "userfaultfd": how = WRITE_HOLDING_USERFAULTFD
        case "mprotect": how = WRITE_HOLDING_MPROTECT
        case "none": how = WRITE_HOLDING_NONE
        case let name?:
            Library.warn("NVMM_WRITE_PROTECTION=\(name): there are userfaultfd, mprotect and none; it is ignored")
            how = WRITE_HOLDING_EITHER
        }
        unsafe write_holder_choose(how) {
            unsafe client_watch_faults(write_holder_fault)
            unsafe client_watch_reads(write_holder_covers)
        }
    }
}
