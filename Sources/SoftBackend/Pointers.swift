// The unsafe corner of the interpreter: typed wrappers of the pointers that its hot path follows.

/// Position in the instructions of a block.
///
/// SAFETY: made by ``CodeCache`` only, from storage that it owns for as long as the CPU that holds the position;
/// `instruction` is read only between a block's start and end.
@safe struct InstructionPointer: Equatable {
    private var raw: UInt = 0
    init() {}
    init(_ pointer: UnsafeMutablePointer<DecodedInstruction>) { raw = UInt(bitPattern: pointer) }

    @inline(__always) var instruction: UnsafePointer<DecodedInstruction> {
        unsafe UnsafePointer(bitPattern: raw).unsafelyUnwrapped
    }
    @inline(__always) func advanced(by count: Int) -> InstructionPointer {
        var moved = self
        moved.raw = raw &+ UInt(bitPattern: count &* MemoryLayout<DecodedInstruction>.stride)
        return moved
    }
    @inline(__always) func distance(to other: InstructionPointer) -> Int {
        Int(bitPattern: other.raw &- raw) / MemoryLayout<DecodedInstruction>.stride
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
