// Shards: all of the traces, each once, the same on every node, whoever numbers the nodes.

import TestSupport
import Testing

@testable import Corpus

private func entry(_ name: String, steps: Int, instructions: Int = 0) -> CorpusEntry {
    CorpusEntry(
        name: name, digest: String(repeating: "0", count: 32), tags: [], expect: .identical, backend: "soft", vcpus: 1,
        steps: steps, instructions: instructions)
}

@Suite struct ShardTests {
    @Test(arguments: 1...16) func `the shards are all of the traces, each once`(count: Int) throws {
        let entries = (0..<61).map { entry("t\($0)", steps: $0 * $0 % 37 * 1000) }
        var names: [String] = []
        for index in 0..<count { names += try Shard(index: index, count: count).part(of: entries).map(\.name) }
        #expect(names.sorted() == entries.map(\.name).sorted())
        let shuffled = entries.reversed() as [CorpusEntry]
        for index in 0..<count {
            let shard = try Shard(index: index, count: count)
            #expect(shard.part(of: shuffled) == shard.part(of: entries))
        }
    }

    @Test func `no shard does more than four thirds of what the best partition would`() throws {
        // Graham 1969: LPT is within 4/3 of the optimum, which is at least the mean and the largest.
        for count in 2...7 {
            let entries = (0..<40).map { entry("t\($0)", steps: 1000 + $0 * 7919 % 5000) }
            let total = entries.reduce(0) { $0 + $1.cost }
            let bound = max(total / UInt64(count) + 1, entries.map(\.cost).max() ?? 0) * 4 / 3 + 1
            for index in 0..<count {
                let load = try Shard(index: index, count: count).part(of: entries).reduce(0) { $0 + $1.cost }
                #expect(load <= bound)
            }
        }
    }

    @Test func `costs that no trace has do not trap`() throws {
        let entries = [entry("a", steps: .max, instructions: .max), entry("b", steps: .max), entry("c", steps: 0)]
        #expect(try Shard(index: 0, count: 1).part(of: entries).count == 3)
    }

    @Test func `an index out of range is an error`() {
        for (index, count) in [(4, 4), (-1, 4), (0, 0), (0, -3)] {
            #expect(throws: ShardError.outOfRange(index: index, count: count, source: "--shard")) {
                _ = try Shard(index: index, count: count)
            }
        }
    }

    @Test func `each scheduler's variables are understood`() throws {
        func shard(_ environment: [String: String]) throws -> [Int]? {
            try ShardEnvironment.detect(in: environment).map { [$0.shard.index, $0.shard.count] }
        }
        #expect(try shard(["PATH": "/bin"]) == nil)
        #expect(try shard(["TEST_SHARD_INDEX": "2", "TEST_TOTAL_SHARDS": "5"]) == [2, 5])
        #expect(try shard(["GTEST_SHARD_INDEX": "0", "GTEST_TOTAL_SHARDS": "3"]) == [0, 3])
        #expect(try shard(["JOB_COMPLETION_INDEX": "3", "JOB_COMPLETIONS": "4"]) == [3, 4])
        #expect(try shard(["CI_NODE_INDEX": "1", "CI_NODE_TOTAL": "4"]) == [0, 4])
        #expect(try shard(["CI_NODE_INDEX": "4", "CI_NODE_TOTAL": "4"]) == [3, 4])
        #expect(try shard(["BUILDKITE_PARALLEL_JOB": "1", "BUILDKITE_PARALLEL_JOB_COUNT": "2"]) == [1, 2])
        // A job of GitLab that is not parallel.
        #expect(try shard(["CI_NODE_TOTAL": "1"]) == nil)
        // The first in the order of the documentation.
        #expect(
            try shard([
                "TEST_SHARD_INDEX": "1", "TEST_TOTAL_SHARDS": "2", "CI_NODE_INDEX": "1", "CI_NODE_TOTAL": "9",
            ]) == [1, 2])
        #expect(
            try ShardEnvironment.detect(in: [
                "TEST_SHARD_INDEX": "0", "TEST_TOTAL_SHARDS": "2", "TEST_SHARD_STATUS_FILE": "/tmp/sharded",
            ])?.statusFile == "/tmp/sharded")
    }

    @Test func `a Slurm array may begin anywhere and go up in steps`() throws {
        func shard(_ id: Int, _ minimum: Int, _ maximum: Int, _ count: Int) throws -> [Int]? {
            try ShardEnvironment.detect(in: [
                "SLURM_ARRAY_TASK_ID": "\(id)", "SLURM_ARRAY_TASK_MIN": "\(minimum)",
                "SLURM_ARRAY_TASK_MAX": "\(maximum)", "SLURM_ARRAY_TASK_COUNT": "\(count)",
            ]).map { [$0.shard.index, $0.shard.count] }
        }
        #expect(try shard(0, 0, 3, 4) == [0, 4])
        #expect(try shard(4, 1, 4, 4) == [3, 4])
        #expect(try shard(30, 10, 40, 4) == [2, 4])
        #expect(try shard(7, 7, 7, 1) == [0, 1])
        #expect(throws: ShardError.arrayWithGaps(minimum: 1, maximum: 7, count: 3)) { try shard(3, 1, 7, 4 - 1) }
        #expect(throws: ShardError.arrayWithGaps(minimum: 1, maximum: 8, count: 3)) { try shard(1, 1, 8, 3) }
        #expect(throws: ShardError.outOfRange(index: 8, count: 4, source: "SLURM_ARRAY_TASK_ID")) {
            try shard(9, 1, 4, 4)
        }
    }

    @Test func `half of a pair is an error, and so is what is no number`() {
        func error(_ environment: [String: String]) -> ShardError? {
            do throws(ShardError) {
                _ = try ShardEnvironment.detect(in: environment)
                return nil
            } catch { return error }
        }
        #expect(
            error(["JOB_COMPLETION_INDEX": "3"])
                == .halfSet(present: "JOB_COMPLETION_INDEX", missing: "JOB_COMPLETIONS"))
        #expect(
            error(["TEST_TOTAL_SHARDS": "3"]) == .halfSet(present: "TEST_TOTAL_SHARDS", missing: "TEST_SHARD_INDEX"))
        #expect(error(["CI_NODE_TOTAL": "3"]) == .halfSet(present: "CI_NODE_TOTAL", missing: "CI_NODE_INDEX"))
        #expect(
            error(["SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_MAX": "4"])
                == .halfSet(present: "SLURM_ARRAY_TASK_ID", missing: "SLURM_ARRAY_TASK_COUNT"))
        #expect(
            error(["GTEST_SHARD_INDEX": "x", "GTEST_TOTAL_SHARDS": "3"])
                == .notANumber(variable: "GTEST_SHARD_INDEX", value: "x"))
        #expect(
            error(["CI_NODE_INDEX": "0", "CI_NODE_TOTAL": "3"])
                == .outOfRange(index: -1, count: 3, source: "CI_NODE_INDEX"))
        #expect(
            error(["CI_NODE_INDEX": "\(Int.min)", "CI_NODE_TOTAL": "3"])
                == .outOfRange(index: -1, count: 3, source: "CI_NODE_INDEX"))
    }
}
