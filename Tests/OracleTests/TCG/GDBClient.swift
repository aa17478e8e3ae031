// A client of the GDB remote serial protocol, as far as QEMU's stub and these tests need it
// (GDB manual, appendix "Remote Serial Protocol").

import Glibc

/// What can go wrong in talking to the stub.
enum GDBError: Error, Equatable {
    case connect(errno: Int32)
    case closed
    case timeout
    /// The stub answered something else than expected.
    case unexpected(command: String, answer: String)
}

/// A connection to a stub on a Unix socket.
final class GDBClient {
    private let descriptor: Int32
    private var buffer: [UInt8] = []

    init(path: String) throws(GDBError) {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        // SAFETY: the path is cut to what sun_path holds, with its zero.
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { target in
            for (index, byte) in path.utf8.prefix(target.count - 1).enumerated() { unsafe target[index] = byte }
        }
        let result = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard result == 0 else {
            let code = errno
            close(descriptor)
            throw .connect(errno: code)
        }
    }

    deinit { close(descriptor) }

    /// Sends a packet and gives back the answer's payload.
    func ask(_ command: String, timeoutMilliseconds: Int32 = 10_000) throws(GDBError) -> String {
        let sum = command.utf8.reduce(UInt8(0)) { $0 &+ $1 }
        let hex = String(UInt16(sum) + 0x100, radix: 16).dropFirst()
        try send(Array("$\(command)#\(hex)".utf8))
        let answer = try receive(timeoutMilliseconds)
        try send([UInt8(ascii: "+")])
        return answer
    }

    /// Sends a packet whose answer must be `OK`.
    func order(_ command: String) throws(GDBError) {
        let answer = try ask(command)
        guard answer == "OK" else { throw .unexpected(command: command, answer: answer) }
    }

    private func send(_ bytes: [UInt8]) throws(GDBError) {
        // SAFETY: the array outlives the call.
        let sent = unsafe bytes.withUnsafeBytes { unsafe write(descriptor, $0.baseAddress, $0.count) }
        guard sent == bytes.count else { throw .closed }
    }

    private func receive(_ timeoutMilliseconds: Int32) throws(GDBError) -> String {
        while true {
            if let start = buffer.firstIndex(of: UInt8(ascii: "$")),
                let end = buffer[start...].firstIndex(of: UInt8(ascii: "#")), end + 2 < buffer.count
            {
                let payload = String(decoding: buffer[start + 1..<end], as: UTF8.self)
                buffer.removeFirst(end + 3)
                return payload
            }
            var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard unsafe poll(&waiting, 1, timeoutMilliseconds) == 1 else { throw .timeout }
            var chunk = [UInt8](repeating: 0, count: 65536)
            // SAFETY: as above.
            let count = unsafe chunk.withUnsafeMutableBytes { unsafe read(descriptor, $0.baseAddress, $0.count) }
            guard count > 0 else { throw .closed }
            buffer += chunk[..<count]
        }
    }
}

/// Hexadecimal as the protocol has it: two digits a byte, target byte order.
enum HexBytes {
    static func decode(_ text: some StringProtocol) -> [UInt8] {
        let digits = Array(text.utf8)
        func value(_ digit: UInt8) -> UInt8 {
            switch digit {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
            default: 0
            }
        }
        return (0..<digits.count / 2).map { value(digits[$0 * 2]) << 4 | value(digits[$0 * 2 + 1]) }
    }

    static func encode(_ value: UInt64, bytes: Int) -> String {
        (0..<bytes).map { index in
            String((value >> UInt64(index * 8) & 0xFF) + 0x100, radix: 16).dropFirst()
        }.joined()
    }
}
