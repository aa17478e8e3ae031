// A recorded trace replayed on the backend it was recorded on, or another.

import NVMM
import Replay
import TestSupport
import TraceTestSupport

extension RecordedTrace {
    func replay(
        on backend: any Backend = ToyBackend(), reference: (any Backend)? = nil,
        _ options: ReplayOptions = ReplayOptions()
    ) throws(ReplayError) -> ReplayReport {
        try Replayer(reader, on: backend, reference: reference, options: options).run()
    }
}
