// What a hypervisor puts into the comm page unasked, by the reason of the exit.

/// Parts of the state that an exit leaves cached: each saves the client a system call where it reads that part, and
/// costs the hypervisor the reading of it where it does not.
public struct CommPagePolicy: Hashable, Sendable {
    /// By place in ``ExitReason/names``.
    private var parts: [StateFlags]

    /// NVMM's own: ``ExitReason/providedState``.
    public static let nvmm: CommPagePolicy = {
        var policy = nothing
        for name in ["IO", "MEMORY"] { policy[name] = [.gprs, .segments, .crs, .msrs] }
        for name in ["RDMSR", "WRMSR"] { policy[name] = .gprs }
        return policy
    }()

    /// Every getstate that follows an exit is a system call.
    public static let nothing = CommPagePolicy()

    /// No getstate is a system call.
    public static let everything: CommPagePolicy = {
        var policy = nothing
        for (_, name) in ExitReason.names { policy[name] = .all }
        return policy
    }()

    private init() { parts = [StateFlags](repeating: [], count: ExitReason.names.count) }

    /// By the reason's name, as ``ExitReason/names`` has it; other names have no parts.
    public subscript(name: String) -> StateFlags {
        get { ExitReason.names.firstIndex { $0.name == name }.map { parts[$0] } ?? [] }
        set { if let place = ExitReason.names.firstIndex(where: { $0.name == name }) { parts[place] = newValue } }
    }

    public subscript(code: UInt64) -> StateFlags {
        ExitReason.names.firstIndex { $0.code == code }.map { parts[$0] } ?? []
    }

    /// `IO=0x17,MEMORY=0x17`: reasons that have parts, in the order of their codes.
    public var text: String {
        ExitReason.names.filter { !self[$0.name].isEmpty }
            .map { "\($0.name)=0x\(String(self[$0.name].rawValue, radix: 16))" }.joined(separator: ",")
    }

    /// From ``text``.
    ///
    /// - Returns: nil for a reason that does not exist, or parts that do not.
    public init?(_ text: String) {
        self.init()
        for entry in text.split(separator: ",") {
            let sides = entry.split(separator: "=")
            guard sides.count == 2, ExitReason.names.contains(where: { $0.name == sides[0] }),
                sides[1].hasPrefix("0x"), let flags = UInt64(sides[1].dropFirst(2), radix: 16),
                StateFlags(rawValue: flags).isSubset(of: .all)
            else { return nil }
            self[String(sides[0])] = StateFlags(rawValue: flags)
        }
    }
}
