// Deliberate errors: the way to prove that a replay finds what it promises to find.

/// One wrong computation, in force from a chosen run of the machine on.
public enum InjectedFault: String, CaseIterable, Sendable {
    case none
    /// ADC forgets the carry it should add.
    case adcCarry = "adc-carry"
    /// LEA leaves out one index: a wrong address.
    case leaIndex = "lea-index"
    /// SHL by more than one bit leaves CF clear: a wrong flag.
    case shlCarry = "shl-carry"
}
