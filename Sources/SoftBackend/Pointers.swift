// The unsafe corner of the interpreter: typed wrappers of the pointers that its hot path follows.

import Synchronization

/// Position in the instructions of a block.
///
/// SAFETY: made by ``CodeCache`` only, from storage that it owns for as long as the CPU that holds the position;
/// `instruction` is read only between a block's start and end.
@safe struct InstructionPointer: Equatable {
    private var raw: UInt = 0
    init() {}
    init(_ pointer: UnsafeMutablePointer<InstructionRecord>) { raw = UInt(bitPattern: pointer) }

    @inline(__always) var instruction: DecodedInstruction {
        unsafe DecodedInstruction(UnsafePointer(bitPattern: raw).unsafelyUnwrapped)
    }
    /// A copy, for who looks at the whole instruction.
    var record: InstructionRecord { unsafe UnsafePointer(bitPattern: raw).unsafelyUnwrapped.pointee }
    @inline(__always) func advanced(by count: Int) -> InstructionPointer {
        var moved = self
        moved.raw = raw &+ UInt(bitPattern: count &* MemoryLayout<InstructionRecord>.stride)
        return moved
    }
    /// - Parameter other: not before this position.
    @inline(__always) func distance(to other: InstructionPointer) -> Int {
        Int(bitPattern: (other.raw &- raw) / UInt(MemoryLayout<InstructionRecord>.stride))
    }
}

/// Host address of guest memory, as the TLB hands it out.
///
/// SAFETY: a value comes from a TLB entry or from ``GuestMemory``, after the access was found to lie within one page of
/// a live memory object; it is used at once and never kept.
@safe struct HostAddress {
    var raw: UInt64
    @inline(__always) init(_ raw: UInt64) { self.raw = raw }
    @inline(__always) func load<T: BitwiseCopyable>(as: T.Type) -> T {
        unsafe UnsafeRawPointer(bitPattern: UInt(raw)).unsafelyUnwrapped.loadUnaligned(as: T.self)
    }
    @inline(__always) func store<T: BitwiseCopyable>(_ value: T) {
        unsafe UnsafeMutableRawPointer(bitPattern: UInt(raw)).unsafelyUnwrapped.storeBytes(of: value, as: T.self)
    }
    @inline(__always) var bytes: UnsafeRawPointer {
        unsafe UnsafeRawPointer(bitPattern: UInt(raw)).unsafelyUnwrapped
    }
    @inline(__always) var mutableBytes: UnsafeMutableRawPointer {
        unsafe UnsafeMutableRawPointer(bitPattern: UInt(raw)).unsafelyUnwrapped
    }
}

/// Registers that are chosen at run time. An `InlineArray` in their place is copied whole at every such read.
///
/// SAFETY: one allocation of `count` elements, freed with the array; indices are tested, which costs nothing where they
/// are masked or constant.
@safe struct RegisterArray<let count: Int, Element>: ~Copyable {
    private let storage: UnsafeMutablePointer<Element>

    init(repeating value: Element) {
        unsafe storage = .allocate(capacity: count)
        unsafe storage.initialize(repeating: value, count: count)
    }

    deinit {
        unsafe storage.deinitialize(count: count)
        unsafe storage.deallocate()
    }

    /// For code that knows the elements by their places.
    var pointer: UnsafeMutablePointer<Element> { unsafe storage }

    @inline(__always) subscript(index: Int) -> Element {
        get {
            precondition(UInt(bitPattern: index) < UInt(count))
            return unsafe storage[index]
        }
        nonmutating _modify {
            precondition(UInt(bitPattern: index) < UInt(count))
            yield unsafe &storage[index]
        }
    }
}

/// A count that the loop reads for every block. As a property of a class, each read of it would be tracked for
/// exclusivity.
///
/// SAFETY: one allocation of one word, freed with the count.
@safe struct SharedCount: ~Copyable {
    private let storage: UnsafeMutablePointer<Atomic<UInt64>>
    init(_ value: UInt64) {
        unsafe storage = .allocate(capacity: 1)
        unsafe storage.initialize(to: Atomic(value))
    }
    deinit { unsafe storage.deallocate() }

    @inline(__always) var value: UInt64 { unsafe storage.pointee.load(ordering: .relaxed) }
    @inline(__always) func increment() { unsafe storage.pointee.wrappingAdd(1, ordering: .relaxed) }
}
