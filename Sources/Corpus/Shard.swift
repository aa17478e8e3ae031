// Which traces one of several nodes replays: the same answer on every node, whatever it knows of the others.

/// One of `count` parts of a run, numbered from 0.
public struct Shard: Hashable, Sendable {
    public let index: Int
    public let count: Int

    /// - Throws: ``ShardError/outOfRange(index:count:source:)``.
    /// - Parameter source: whose numbers these are, for the error.
    public init(index: Int, count: Int, source: String = "--shard") throws(ShardError) {
        guard count > 0, index >= 0, index < count else {
            throw .outOfRange(index: index, count: count, source: source)
        }
        self.index = index
        self.count = count
    }

    /// The whole.
    public static var whole: Shard { Shard() }

    private init() { (index, count) = (0, 1) }

    /// This shard's part of `entries`, in the order in which they are best begun: the most expensive first.
    ///
    /// Longest processing time first: each trace goes to the shard that has the least to do so far, the most expensive
    /// first (Graham, "Bounds on multiprocessing timing anomalies", 1969).
    public func part(of entries: [CorpusEntry]) -> [CorpusEntry] {
        var loads = [UInt64](repeating: 0, count: count)
        var part: [CorpusEntry] = []
        let ordered = entries.sorted { ($1.cost, $0.name) < ($0.cost, $1.name) }
        for entry in ordered {
            let lightest = loads.indices.min { (loads[$0], $0) < (loads[$1], $1) } ?? 0
            loads[lightest] = loads[lightest].addingReportingOverflow(max(entry.cost, 1)).partialValue
            if lightest == index { part.append(entry) }
        }
        return part
    }
}

/// Numbers of a shard that make no sense.
public enum ShardError: Error, Equatable, Sendable {
    /// `source` is the option or the variable; both counted from 0 here.
    case outOfRange(index: Int, count: Int, source: String)
    /// One variable of a pair is set, the other not.
    case halfSet(present: String, missing: String)
    /// A variable's value is no whole number.
    case notANumber(variable: String, value: String)
    /// A Slurm array whose task numbers are not a whole range: which place a task has in it is not known.
    case arrayWithGaps(minimum: Int, maximum: Int, count: Int)
}

/// What a scheduler said in the environment of a process.
public struct ShardEnvironment: Hashable, Sendable {
    public var shard: Shard
    /// Whose variables were found.
    public var scheduler: String
    /// A file that is to be touched, as a sign that shards are understood.
    public var statusFile: String?

    /// Looks for a scheduler's variables, the first that are set in this order: Bazel, GoogleTest, a Kubernetes Indexed
    /// Job (its size is in no variable that Kubernetes sets: the job's manifest sets `JOB_COMPLETIONS`), a Slurm array,
    /// `CI_NODE_INDEX` from 1 (GitLab), Buildkite.
    ///
    /// - Returns: nil where none is set.
    public static func detect(in environment: [String: String]) throws(ShardError) -> ShardEnvironment? {
        if let shard = try pair("TEST_SHARD_INDEX", "TEST_TOTAL_SHARDS", in: environment) {
            return ShardEnvironment(
                shard: shard, scheduler: "Bazel", statusFile: environment["TEST_SHARD_STATUS_FILE"])
        }
        if let shard = try pair("GTEST_SHARD_INDEX", "GTEST_TOTAL_SHARDS", in: environment) {
            return ShardEnvironment(
                shard: shard, scheduler: "GoogleTest", statusFile: environment["GTEST_SHARD_STATUS_FILE"])
        }
        if let shard = try pair("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS", in: environment) {
            return ShardEnvironment(shard: shard, scheduler: "Kubernetes")
        }
        if let shard = try slurm(environment) { return ShardEnvironment(shard: shard, scheduler: "Slurm") }
        // GitLab says that there is one node where a job is not parallel, and gives it no number.
        let isLonelyNode = environment["CI_NODE_TOTAL"] == "1" && environment["CI_NODE_INDEX"] == nil
        if !isLonelyNode, let shard = try pair("CI_NODE_INDEX", "CI_NODE_TOTAL", first: 1, in: environment) {
            return ShardEnvironment(shard: shard, scheduler: "CI_NODE")
        }
        if let shard = try pair("BUILDKITE_PARALLEL_JOB", "BUILDKITE_PARALLEL_JOB_COUNT", in: environment) {
            return ShardEnvironment(shard: shard, scheduler: "Buildkite")
        }
        return nil
    }

    private static func number(_ name: String, in environment: [String: String]) throws(ShardError) -> Int? {
        guard let value = environment[name], !value.isEmpty else { return nil }
        guard let number = Int(value) else { throw .notANumber(variable: name, value: value) }
        return number
    }

    private static func pair(
        _ index: String, _ count: String, first: Int = 0, in environment: [String: String]
    ) throws(ShardError) -> Shard? {
        switch (try number(index, in: environment), try number(count, in: environment)) {
        case (nil, nil): return nil
        case (.some, nil): throw .halfSet(present: index, missing: count)
        case (nil, .some): throw .halfSet(present: count, missing: index)
        case (let place?, let total?):
            let (place, overflow) = place.subtractingReportingOverflow(first)
            return try Shard(index: overflow ? -1 : place, count: total, source: index)
        }
    }

    /// Task numbers of an array begin anywhere, and go up in steps (sbatch --array=10-40:10).
    private static func slurm(_ environment: [String: String]) throws(ShardError) -> Shard? {
        let names = ["ID", "MIN", "MAX", "COUNT"].map { "SLURM_ARRAY_TASK_" + $0 }
        var values: [Int] = []
        for name in names { if let value = try number(name, in: environment) { values.append(value) } }
        if values.isEmpty { return nil }
        for name in names where environment[name] ?? "" == "" {
            let present = names.first { environment[$0] ?? "" != "" } ?? name
            throw .halfSet(present: present, missing: name)
        }
        let (id, minimum, maximum, count) = (values[0], values[1], values[2], values[3])
        let (span, overflow) = maximum.subtractingReportingOverflow(minimum)
        let (distance, wraps) = id.subtractingReportingOverflow(minimum)
        guard !overflow, !wraps, span >= 0, count > 0, id >= minimum, id <= maximum else {
            throw .outOfRange(index: overflow || wraps ? -1 : distance, count: count, source: names[0])
        }
        if count == 1 { return try Shard(index: 0, count: 1) }
        guard span % (count - 1) == 0, span > 0, distance % (span / (count - 1)) == 0 else {
            throw .arrayWithGaps(minimum: minimum, maximum: maximum, count: count)
        }
        return try Shard(index: distance / (span / (count - 1)), count: count, source: names[0])
    }
}
