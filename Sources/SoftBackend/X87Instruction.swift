// What an x87 instruction does, in the order of the manual's groups: SDM vol. 1, section 8.3.

/// Of ``Operation/x87``.
enum X87Operation: UInt8 {
    case none
    // Loads, stores, exchanges
    case fld, fst, fstpnce, fxch, fcmovb, fcmove, fcmovbe, fcmovu, fcmovnb, fcmovne, fcmovnbe, fcmovnu
    case fld1, fldl2t, fldl2e, fldpi, fldlg2, fldln2, fldz
    /// Truncates to an integer, whatever the control word says.
    case fisttp
    // Arithmetic
    case fadd, fmul, fcom, fsub, fsubr, fdiv, fdivr
    case fucom, fcomi, fucomi, ftst, fxam
    case fchs, fabs, fsqrt, fscale, fprem, fprem1, frndint, fxtract
    // Transcendental
    case f2xm1, fyl2x, fyl2xp1, fptan, fpatan, fsin, fcos, fsincos
    // Control
    /// FENI, FDISI and FSETPM of older coprocessors.
    case ignored
    case fincstp, fdecstp, ffree, fnop, fldenv, fnstenv, frstor, fnsave
}

/// Where the operand that is not ST0 comes from or goes to.
enum X87Operand: UInt8 {
    case none, register
    case single, double, extended, decimal
    case integer16, integer32, integer64
}

/// An instruction with its operand: ST0 and ST(i), or ST0 and memory.
struct X87Instruction: BitwiseCopyable {
    var operation = X87Operation.none
    var operand = X87Operand.none
    /// How many times the stack is popped: 0...2.
    var pops: UInt8 = 0
    /// Whether ST(i), not ST0, is the destination.
    var writesRegister = false
}
