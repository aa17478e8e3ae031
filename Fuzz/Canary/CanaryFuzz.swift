// A target that must crash: if the fuzzer cannot find this, it finds nothing else either.

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzCanary(_ data: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
    let bytes = unsafe Array(UnsafeBufferPointer(start: data, count: count))
    let table = [1, 2, 3]
    // Out of the table's bounds for most bytes, but only behind these four.
    if bytes.count > 4, bytes[0] == 0x56, bytes[1] == 0x4D, bytes[2] == 0x54, bytes[3] == 0x46 {
        return Int32(table[Int(bytes[4])] & 0)
    }
    return 0
}
