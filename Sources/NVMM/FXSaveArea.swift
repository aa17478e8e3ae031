// The FXSAVE image, 512 bytes: SDM vol. 1, section 10.5.1; `fpu` of `struct nvmm_x64_state`.

/// x87, MMX and SSE state in the layout that FXSAVE writes.
///
/// The vectors of 16 bytes give the struct its alignment of 16, which places it at offset 496 of ``VCPUState``.
public struct FXSaveArea: Sendable {
    public var controlWord: UInt16 = 0x40
    public var statusWord: UInt16 = 0
    /// Abridged tag byte: bit n set where the physical register n is not empty.
    public var tagByte: UInt8 = 0
    public var zero: UInt8 = 0
    public var lastOpcode: UInt16 = 0
    public var instructionPointer: UInt64 = 0
    public var dataPointer: UInt64 = 0
    public var mxcsr: UInt32 = 0x1F80
    public var mxcsrMask: UInt32 = 0
    /// ST0 to ST7 (or MM0 to MM7), each 10 bytes little-endian in a slot of 16.
    public var x87: InlineArray<8, SIMD16<UInt8>> = .init(repeating: .zero)
    public var xmm: InlineArray<16, SIMD16<UInt8>> = .init(repeating: .zero)
    public var reserved: InlineArray<6, SIMD16<UInt8>> = .init(repeating: .zero)

    public init() {}
}
