// A case on which host and backend differ, made plain: everything that does not matter is zero.

import NVMM

extension HostComparison {
    /// The failure's case with as little in its state and memory as still shows differences in the same fields.
    ///
    /// Each register, flag, vector and byte of memory is tried at zero, until nothing more can go; the code stays.
    func smallest(_ failure: OracleFailure) throws -> OracleFailure {
        let slot = Window.slot(of: failure.test)
        let wanted = Set(failure.differences.map(\.field))
        var best = failure
        func keep(_ change: (inout OracleCase) -> Void) throws -> Bool {
            var test = best.test
            change(&test)
            guard let pair = try alone(test, slot: slot) else { return false }
            let differences = pair.differences(test)
            guard Set(differences.map(\.field)) == wanted,
                try !ImplementationChoices.explain(pair, failure.row, test, alone: { try alone($0, slot: slot) })
            else { return false }
            best = OracleFailure(
                row: failure.row, seed: failure.seed, index: failure.index, test: test, host: pair.host,
                guest: pair.guest, differences: differences)
            return true
        }
        // One that differs among others only is left as it is.
        guard try keep({ _ in }) else { return failure }
        var isSmaller = true
        while isSmaller {
            isSmaller = false
            for index in 0..<16 where best.test.state.gprs[index] != 0 {
                if try keep({ $0.state.gprs[index] = 0 }) { isSmaller = true }
            }
            for index in 0..<16 where best.test.state.fpu.xmm[index] != .zero {
                if try keep({ $0.state.fpu.xmm[index] = .zero }) { isSmaller = true }
            }
            for index in 0..<16 where best.test.state.ymm[index] != .zero {
                if try keep({ $0.state.ymm[index] = .zero }) { isSmaller = true }
            }
            for index in 0..<8 where best.test.state.fpu.x87[index] != .zero {
                if try keep({ $0.state.fpu.x87[index] = .zero }) { isSmaller = true }
            }
            if best.test.state.fpu.mxcsr != OracleState.initialFPU.mxcsr,
                try keep({ $0.state.fpu.mxcsr = OracleState.initialFPU.mxcsr })
            {
                isSmaller = true
            }
            for bit in UInt64(0)..<22 where Flag.compared >> bit & 1 != 0 && best.test.state.rflags >> bit & 1 != 0 {
                if try keep({ $0.state.rflags &= ~(1 << bit) }) { isSmaller = true }
            }
            for place in best.test.patches.indices.reversed() {
                if try keep({ $0.patches.remove(at: place) }) {
                    isSmaller = true
                    continue
                }
                for index in best.test.patches[place].bytes.indices where best.test.patches[place].bytes[index] != 0 {
                    if try keep({ $0.patches[place].bytes[index] = 0 }) { isSmaller = true }
                }
            }
        }
        return best
    }
}

extension Window {
    /// Where in its batch a case stands.
    static func slot(of test: OracleCase) -> Int {
        let offset = isCodeBased(test.state.cs) ? test.state.rip : test.state.rip &- codeBase
        return min(Int(truncatingIfNeeded: offset) / slotBytes, casesMax - 1)
    }
}
