// Memory that stands at two addresses: the client's, which it chose, and the backend's own.

import NVMM

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// One memory object without a name, mapped twice.
///
/// SAFETY: both mappings are `byteCount` long and last until ``unmap()``, which is called once, when nobody refers to
/// the object any more.
@safe struct SharedMemory {
    let byteCount: Int
    let clientWrites: ClientWrites
    let backendAddress: UInt
    let clientPointer: UnsafeMutableRawPointer

    /// - Parameter clientAddress: page-aligned; what is mapped there is replaced.
    init(byteCount: Int, clientAddress: UInt) throws(MachineError) {
        self.byteCount = byteCount
        let descriptor = Self.open()
        guard descriptor >= 0 else { throw .outOfMemory(byteCount: byteCount) }
        defer { close(descriptor) }
        guard ftruncate(descriptor, off_t(byteCount)) == 0 else { throw .outOfMemory(byteCount: byteCount) }
        // The backend's first: where it fails, the client's range is untouched.
        let access = PROT_READ | PROT_WRITE
        guard let backend = unsafe mmap(nil, byteCount, access, MAP_SHARED, descriptor, 0),
            unsafe backend != MAP_FAILED
        else { throw .outOfMemory(byteCount: byteCount) }
        let wanted = unsafe UnsafeMutableRawPointer(bitPattern: clientAddress)
        guard let client = unsafe mmap(wanted, byteCount, access, MAP_SHARED | MAP_FIXED, descriptor, 0),
            unsafe client != MAP_FAILED
        else {
            unsafe munmap(backend, byteCount)
            throw .outOfMemory(byteCount: byteCount)
        }
        backendAddress = UInt(bitPattern: backend)
        unsafe clientPointer = client
        clientWrites = ClientWrites(start: clientAddress, byteCount: byteCount)
    }

    func unmap() {
        clientWrites.end()
        unsafe munmap(UnsafeMutableRawPointer(bitPattern: backendAddress), byteCount)
        unsafe munmap(clientPointer, byteCount)
    }

    /// A descriptor of memory without a name.
    private static func open() -> Int32 {
        // Linux's memfd_create is not limited by the size of /dev/shm, as small as 64 MiB in a container. The C
        // library's header shows it to GNU sources only, hence the look-up.
        if let symbol = unsafe dlsym(nil, "memfd_create") {
            typealias Create = @convention(c) (UnsafePointer<CChar>, UInt32) -> Int32
            let closesOnExec: UInt32 = 1  // MFD_CLOEXEC
            let descriptor = unsafe unsafeBitCast(symbol, to: Create.self)("guest memory", closesOnExec)
            if descriptor >= 0 { return descriptor }
        }
        let name = "/exit-tracer-\(getpid())-\(UInt64.random(in: 0 ... .max))"
        let descriptor = unsafe shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0o600)
        if descriptor >= 0 { unsafe shm_unlink(name) }
        return descriptor
    }
}
