// Two ways of doing the same, timed in turns in one process: what is reported is the median of the ratios.

/// Times of a pair, one entry a round.
struct Pairs {
    private(set) var ours: [Double] = []
    private(set) var theirs: [Double] = []

    /// Runs both bodies once a round, in alternating order, so that a slow phase of the machine strikes both.
    init(rounds: Int, ours: () throws -> Void, theirs: () throws -> Void) rethrows {
        for round in 0..<rounds {
            if round % 2 == 0 {
                self.ours.append(try seconds(ours))
                self.theirs.append(try seconds(theirs))
            } else {
                self.theirs.append(try seconds(theirs))
                self.ours.append(try seconds(ours))
            }
        }
    }

    /// Median over the rounds of ours by theirs.
    var ratio: Double { median(zip(ours, theirs).map { $0 / $1 }) }
    var range: ClosedRange<Double> {
        let all = zip(ours, theirs).map { $0 / $1 }
        return (all.min() ?? 0)...(all.max() ?? 0)
    }
}

/// Wall-clock seconds of one call.
func seconds(_ body: () throws -> Void) rethrows -> Double {
    let clock = ContinuousClock()
    let begin = clock.now
    try body()
    return (clock.now - begin) / .seconds(1)
}

func median(_ values: [Double]) -> Double {
    let sorted = values.sorted()
    guard !sorted.isEmpty else { return 0 }
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}
