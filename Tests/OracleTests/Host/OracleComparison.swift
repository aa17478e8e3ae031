// What differs between two outcomes of a case, and the report of it.

import NVMM
import TestSupport

/// One thing that differs.
struct OracleDifference: CustomStringConvertible, Sendable {
    var field: String
    var expected: String
    var actual: String
    var description: String { "\(field): host \(expected), guest \(actual)" }
}

enum OracleComparison {
    static let registerNames = [
        "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15",
    ]

    /// - Returns: empty where the two agree in all that the manual defines.
    static func differences(_ test: OracleCase, _ host: OracleOutcome, _ guest: OracleOutcome) -> [OracleDifference] {
        var found: [OracleDifference] = []
        func compare(_ field: String, _ host: UInt64, _ guest: UInt64) {
            if host != guest { found.append(OracleDifference(field: field, expected: hex(host), actual: hex(guest))) }
        }
        compare("vector", host.vector.map(UInt64.init) ?? 0x100, guest.vector.map(UInt64.init) ?? 0x100)
        if host.vector == guest.vector, host.vector != nil {
            compare("error code", UInt64(host.errorCode), UInt64(guest.errorCode))
            if host.vector == 14 { compare("CR2", host.cr2, guest.cr2) }
        }
        // Outside 64-bit mode the upper halves of the registers are undefined (SDM vol. 1, 3.4.1.1), and R8 on hidden.
        let is64 = test.mode == .bits64
        let mask: UInt64 = is64 ? .max : 0xFFFF_FFFF
        for index in 0..<(is64 ? 16 : 8) {
            let defined =
                test.undefined.registers & (1 << UInt16(index)) == 0 ? mask : mask & ~test.undefined.registerBits
            compare(registerNames[index], host.state.gprs[index] & defined, guest.state.gprs[index] & defined)
        }
        compare("RIP", host.state.rip, guest.state.rip)
        let flags = Flag.compared & ~test.undefined.flags
        compare("RFLAGS", host.state.rflags & flags, guest.state.rflags & flags)
        compare("CS", UInt64(host.state.cs), UInt64(guest.state.cs))
        compare("SS", UInt64(host.state.ss), UInt64(guest.state.ss))
        // The host's kernel returns by IRET, which makes any null selector in DS and ES zero (SDM vol. 2, IRET).
        func data(_ selector: UInt16) -> UInt64 { selector < 4 ? 0 : UInt64(selector) }
        compare("DS", data(host.state.ds), data(guest.state.ds))
        compare("ES", data(host.state.es), data(guest.state.es))
        compare("FCW", UInt64(host.state.fpu.controlWord), UInt64(guest.state.fpu.controlWord))
        let status = ~test.undefined.statusWord
        compare("FSW", UInt64(host.state.fpu.statusWord & status), UInt64(guest.state.fpu.statusWord & status))
        compare("FTW", UInt64(host.state.fpu.tagByte), UInt64(guest.state.fpu.tagByte))
        compare("MXCSR", UInt64(host.state.fpu.mxcsr), UInt64(guest.state.fpu.mxcsr))
        func compare(_ field: String, _ host: SIMD16<UInt8>, _ guest: SIMD16<UInt8>) {
            guard host != guest else { return }
            found.append(OracleDifference(field: field, expected: text(host), actual: text(guest)))
        }
        for index in 0..<8 {
            let (expected, actual) = (host.state.fpu.x87[index], guest.state.fpu.x87[index])
            if isNear(expected, actual, ulps: test.undefined.numberUlps) { continue }
            compare("ST\(index)", expected, actual)
        }
        if HostOracle.keepsInstructionPointer {
            compare("FIP", host.state.fpu.instructionPointer, guest.state.fpu.instructionPointer)
            compare("FDP", host.state.fpu.dataPointer, guest.state.fpu.dataPointer)
            compare("FOP", UInt64(host.state.fpu.lastOpcode), UInt64(guest.state.fpu.lastOpcode))
        }
        for index in 0..<16 {
            let (expected, actual) = (host.state.fpu.xmm[index], guest.state.fpu.xmm[index])
            if test.undefined.isApproximate, isNear(expected, actual) { continue }
            compare("XMM\(index)", expected, actual)
        }
        for index in 0..<16 {
            let (expected, actual) = (host.state.ymm[index], guest.state.ymm[index])
            if test.undefined.isApproximate, isNear(expected, actual) { continue }
            compare("upper half of YMM\(index)", expected, actual)
        }
        if !test.undefined.memory, host.changes != guest.changes || host.changeCount != guest.changeCount {
            found.append(
                OracleDifference(
                    field: "memory", expected: text(host.changes, host.changeCount),
                    actual: text(guest.changes, guest.changeCount)))
        }
        return found
    }

    static func hex(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }

    /// As one number, the highest byte first.
    static func text(_ vector: SIMD16<UInt8>) -> String {
        "0x" + vector.indices.reversed().map { String(UInt16(vector[$0]) + 0x100, radix: 16).dropFirst() }.joined()
    }

    private static func text(_ changes: [OracleChange], _ count: Int) -> String {
        "\(count) bytes ["
            + changes.prefix(32).map { hex(UInt64($0.offset)) + "=" + hex(UInt64($0.value)) }.joined(separator: " ")
            + "]"
    }
}

extension OracleComparison {
    /// Four single numbers, each by two errors of RCPPS apart at most, or on either side of the smallest normal one.
    static func isNear(_ a: SIMD16<UInt8>, _ b: SIMD16<UInt8>) -> Bool {
        (0..<4).allSatisfy { lane in
            func number(_ vector: SIMD16<UInt8>) -> UInt32 {
                (0..<4).reduce(0) { $0 | UInt32(vector[lane * 4 + $1]) << UInt32($1 * 8) }
            }
            let (first, second) = (number(a), number(b))
            if first == second { return true }
            let (left, right) = (Float(bitPattern: first), Float(bitPattern: second))
            guard left.isFinite, right.isFinite, left.sign == right.sign else { return false }
            let smallest = Float.leastNormalMagnitude
            if left == 0 || right == 0 { return max(left.magnitude, right.magnitude) <= smallest * 1.001 }
            return (left - right).magnitude <= 3 / 4096 * min(left.magnitude, right.magnitude)
        }
    }

    /// Numbers of 80 bits with the same sign, so many neighbours apart at most.
    static func isNear(_ a: SIMD16<UInt8>, _ b: SIMD16<UInt8>, ulps: UInt64) -> Bool {
        // Without the integer bit, neighbours across a power of two are one apart.
        func position(_ number: SIMD16<UInt8>) -> UInt128 {
            var significand: UInt64 = 0
            for index in 0..<8 { significand |= UInt64(number[index]) << UInt64(index * 8) }
            let exponent = UInt128(number[8]) | UInt128(number[9] & 0x7F) << 8
            return exponent << 63 | UInt128(significand & ~(1 << 63))
        }
        guard ulps > 0, (a[9] ^ b[9]) & 0x80 == 0 else { return false }
        let (first, second) = (position(a), position(b))
        return max(first, second) - min(first, second) <= UInt128(ulps)
    }
}

/// Everything about a case that went wrong, for people.
struct OracleFailure: Sendable {
    var row: HostRow
    var seed: UInt64
    var index: Int
    var test: OracleCase
    var host: OracleOutcome
    var guest: OracleOutcome
    var differences: [OracleDifference]

    var description: String {
        func state(_ state: OracleState) -> String {
            (0..<16).map { OracleComparison.registerNames[$0] + "=" + OracleComparison.hex(state.gprs[$0]) }
                .joined(separator: " ")
                + " RIP=\(OracleComparison.hex(state.rip)) RFLAGS=\(OracleComparison.hex(state.rflags))"
                + " CS=\(OracleComparison.hex(UInt64(state.cs))) SS=\(OracleComparison.hex(UInt64(state.ss)))"
                + " DS=\(OracleComparison.hex(UInt64(state.ds))) ES=\(OracleComparison.hex(UInt64(state.es)))"
        }
        let before = test.state.fpu
        let x87 =
            "FCW=\(OracleComparison.hex(UInt64(before.controlWord)))"
            + " FSW=\(OracleComparison.hex(UInt64(before.statusWord)))"
            + " FTW=\(OracleComparison.hex(UInt64(before.tagByte)))"
            + (0..<2).map { " ST\($0)=" + OracleComparison.text(before.x87[$0]) }.joined()
        let bytes = InstructionText.hex(test.code)
        let patches = test.patches.map { "\(OracleComparison.hex(UInt64($0.offset))): \($0.bytes)" }
            .joined(separator: "; ")
        return """
            \(row.mnemonic) \(row.size)-bit operands, \(row.mode.rawValue)-bit mode: \
            \(InstructionText.of(test.code, mode: test.mode)) [\(bytes)]
              \(differences.map(\.description).joined(separator: "\n  "))
              seed \(seed), case \(index); again: EXIT_TRACER_ORACLE_SEED=\(seed) \
            EXIT_TRACER_ORACLE_ROW='\(row.mnemonic)' \
            swift test -c release -Xswiftc -enable-testing --filter OracleTests
              before: \(state(test.state))
              x87:    \(x87)
              memory: \(patches)
              host:   \(state(host.state)) vector \(host.vector.map(String.init) ?? "none")
              guest:  \(state(guest.state)) vector \(guest.vector.map(String.init) ?? "none")
            """
    }
}
