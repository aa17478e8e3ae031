// A place for what the record path touches at every exit, without the tracking that properties of classes have.

/// A value at a fixed address. Each access to a stored property of a class is tracked at run time, so that those that
/// overlap trap; a recording makes dozens for every exit, where a lock or the one thread that runs the VCPU keeps them
/// apart already.
///
/// SAFETY: one allocation of one value, freed with this. Who holds it sees to it that accesses do not overlap.
@safe package struct Untracked<Value>: ~Copyable {
    private let place: UnsafeMutablePointer<Value>

    package init(_ value: consuming Value) {
        unsafe place = .allocate(capacity: 1)
        unsafe place.initialize(to: value)
    }

    deinit {
        unsafe place.deinitialize(count: 1)
        unsafe place.deallocate()
    }

    package var value: Value {
        @inline(__always) _read { yield unsafe place.pointee }
        @inline(__always) nonmutating _modify { yield unsafe &place.pointee }
    }
}
