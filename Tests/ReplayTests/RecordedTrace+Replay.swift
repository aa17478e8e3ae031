// A recorded trace replayed on the backend it was recorded on, or another; and a guest with something to go wrong.

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

extension ToyClient {
    /// Each round shifts the carry out of EAX, adds it in again and stores the sum.
    static let shifter: [UInt8] = [
        0xB9, 0x03, 0x00, 0x00, 0x00,  // 1000 mov ecx, 3
        0xB8, 0x00, 0x00, 0x00, 0x18,  // 1005 mov eax, 0x18000000
        0xC1, 0xE0, 0x04,  // 100a shl eax, 4
        0x83, 0xD0, 0x00,  // 100d adc eax, 0
        0x01, 0x05, 0x00, 0x30, 0x00, 0x00,  // 1010 add [0x3000], eax
        0xE6, 0x19,  // 1016 out 0x19, al
        0x49,  // 1018 dec ecx
        0x75, 0xEA,  // 1019 jnz 1005
        0xF4,  // 101b hlt
        0xEB, 0xE2,  // 101c jmp 1000
    ]
}
