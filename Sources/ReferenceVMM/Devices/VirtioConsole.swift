// The virtio console with one port: VIRTIO 1.2, section 5.3. Queue 0 receives, queue 1 transmits.

final class VirtioConsole: VirtioKind {
    let deviceID: UInt16 = 3
    let classCode: UInt32 = 0x0780_0001
    let queueCount = 2
    let features: UInt64 = 0
    /// Size and port count, which only features give a meaning.
    let configuration = [UInt8](repeating: 0, count: 12)

    private let send: (UInt8) -> Void
    private var input: ArraySlice<UInt8>
    private var isInUse = false
    private static let pieceBytes = 4096

    /// - Parameters:
    ///   - input: what is typed once the guest has sent something: before, systems throw away what comes.
    ///   - send: gets every byte that the guest transmits.
    init(input: [UInt8], send: @escaping (UInt8) -> Void) {
        self.input = input[...]
        self.send = send
    }

    func wants(queue: Int) -> Bool { queue == 1 || isInUse && !input.isEmpty }

    func handle(_ chain: VirtChain, queue: Int, in memory: PCMemory) -> Int {
        queue == 0 ? receive(chain, memory) : transmit(chain, memory)
    }

    private func receive(_ chain: VirtChain, _ memory: PCMemory) -> Int {
        var written = 0
        for buffer in chain.writable {
            let part = input.prefix(buffer.byteCount)
            guard !part.isEmpty, memory.writePhysical(buffer.address, part) else { break }
            input = input.dropFirst(part.count)
            written += part.count
        }
        return written
    }

    private func transmit(_ chain: VirtChain, _ memory: PCMemory) -> Int {
        for buffer in chain.readable {
            var place = 0
            while place < buffer.byteCount {
                let count = min(buffer.byteCount - place, Self.pieceBytes)
                guard let bytes = memory.readPhysical(buffer.address &+ UInt64(place), byteCount: count) else { break }
                bytes.forEach(send)
                isInUse = true
                place += count
            }
        }
        return 0
    }
}
