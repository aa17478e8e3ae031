// Errors as libnvmm's callers know them: the errno that each stands for.

import Assists
import CNVMM
import Glibc
import NVMM

/// An errno on its way to the caller.
struct ErrorNumber: Error {
    let value: Int32
    init(_ value: Int32) { self.value = value }

    init(_ error: MachineError) {
        value =
            switch error {
            case .misaligned, .overlaps, .beyondAddressSpace, .outsideObject, .vcpuOutOfRange: EINVAL
            case .noSuchRange, .noSuchObject, .noSuchVCPU: ENOENT
            case .objectInUse, .vcpuExists: EBUSY
            case .tooMany: ENOBUFS
            case .outOfMemory: ENOMEM
            case .fixedAddressUnsupported: ENOTSUP
            case .privateStateRefused: EINVAL
            case .hostRefused(_, let errno): errno
            }
    }

    init(_ error: VCPUError) {
        value =
            switch error {
            case .badEvent, .contradictoryCPUIDMask, .unsupportedConfiguration, .privateStateRefused: EINVAL
            case .tooManyCPUIDRules: ENOBUFS
            case .destroyed: ENOENT
            case .notAsRecorded: ECANCELED
            case .hostRefused(_, let errno): errno
            }
    }

    init(_ error: AssistError) {
        switch error {
        case .pageFault, .segmentViolation, .exception, .pageTableOutsideMemory: self.init(EFAULT)
        case .undecodable, .unsupported, .unanswered: self.init(ENODEV)
        case .vcpu(let error): self.init(error)
        case .machine(let error): self.init(error)
        }
    }
}

/// 0, or -1 with errno set to what `body` threw.
func returning(_ body: () throws(ErrorNumber) -> Void) -> Int32 {
    do {
        try body()
        return 0
    } catch {
        errno = error.value
        return -1
    }
}

/// `body`'s result, its error as an errno.
func mapping<Value>(_ body: () throws(MachineError) -> Value) throws(ErrorNumber) -> Value {
    do { return try body() } catch { throw ErrorNumber(error) }
}
func mapping<Value>(_ body: () throws(VCPUError) -> Value) throws(ErrorNumber) -> Value {
    do { return try body() } catch { throw ErrorNumber(error) }
}
func mapping<Value>(_ body: () throws(AssistError) -> Value) throws(ErrorNumber) -> Value {
    do { return try body() } catch { throw ErrorNumber(error) }
}
