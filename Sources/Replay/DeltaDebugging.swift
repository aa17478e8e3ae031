// Delta debugging: the smallest part of a list that still does what the whole does.
// A. Zeller, R. Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE TSE 28(2), 2002.

/// Takes out as many elements as it can.
///
/// - Parameter stillFails: whether a part does what the whole list does; not asked for the whole itself.
/// - Returns: a part of which no single element can be taken out, unless `stillFails` gave up by throwing.
func minimized<Element, Failure: Error>(
    _ elements: [Element], stillFails: ([Element]) throws(Failure) -> Bool
) throws(Failure) -> [Element] {
    var elements = elements
    if elements.isEmpty { return elements }
    if try stillFails([]) { return [] }
    var chunkCount = 2
    while elements.count > 1 {
        let size = (elements.count + chunkCount - 1) / chunkCount
        var isReduced = false
        var start = 0
        while start < elements.count {
            var rest = elements
            rest.removeSubrange(start..<min(start + size, elements.count))
            if !rest.isEmpty, try stillFails(rest) {
                elements = rest
                isReduced = true
                // The next chunk stands at the same place now.
            } else {
                start += size
            }
        }
        if isReduced {
            chunkCount = max(chunkCount - 1, 2)
        } else if size == 1 {
            break
        } else {
            chunkCount = min(chunkCount * 2, elements.count)
        }
    }
    return elements
}
