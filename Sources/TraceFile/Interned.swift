// Tables of distinct things, such as the templates of a block's steps.

/// What an ``Interned`` table can hold.
protocol Internable: Hashable {
    /// A few operations over what usually differs; equal elements have equal ones. Only speed depends on it.
    var mixed: UInt64 { get }
}

/// A table of distinct things in order of appearance.
///
/// A step asks five of these tables, nearly always for something that stands there already: a small cache, indexed by
/// ``Internable/mixed``, answers then without the dictionary's hash function.
struct Interned<Element: Internable> {
    private static var cacheBits: UInt64 { 9 }

    private(set) var elements: [Element] = []
    private var places: [Element: Int] = [:]
    private var cache = [Int](repeating: 0, count: 1 << Int(Self.cacheBits))

    mutating func place(of element: Element) -> Int {
        let slot = Int(truncatingIfNeeded: (element.mixed &* 0x9E37_79B9_7F4A_7C15) >> (64 - Self.cacheBits))
        let recent = cache[slot]
        if recent < elements.count, elements[recent] == element { return recent }
        let place = places[element] ?? add(element)
        cache[slot] = place
        return place
    }

    private mutating func add(_ element: Element) -> Int {
        places[element] = elements.count
        elements.append(element)
        return elements.count - 1
    }
}

extension ExitWords: Internable {
    var mixed: UInt64 { UInt64(number) &+ a &* 31 &+ b &* 131 &+ c &* 1031 &+ d &* 8191 }
}

extension UInt64: Internable {
    var mixed: UInt64 { self }
}

extension WordMask: Internable {
    var mixed: UInt64 { low &+ high &* 31 }
}

extension [UInt8]: Internable {
    var mixed: UInt64 {
        var mixed: UInt64 = 0
        for byte in self { mixed = mixed &* 131 &+ UInt64(byte) }
        return mixed
    }
}
