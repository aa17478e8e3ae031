// When guest code is translated into code of the host, rather than interpreted.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// What a guest observes does not depend on it: Docs/soft-backend.md.
public enum CodeTranslation: Hashable, Sendable {
    /// All code is interpreted.
    case never
    /// A block of 64-bit code is translated once it was executed so often, where the host is an x86-64 that lets memory
    /// be executed that was written.
    case after(executions: UInt32)

    /// Frequent code, unless `EXIT_TRACER_TRANSLATE_AFTER` in the environment says `never`, or another number.
    public static let standard: CodeTranslation = {
        guard let text = unsafe getenv("EXIT_TRACER_TRANSLATE_AFTER").map({ unsafe String(cString: $0) }) else {
            return .after(executions: 32)
        }
        return UInt32(text).map { .after(executions: max($0, 1)) } ?? .never
    }()
}
