// Whether two names lead to one file: what is written must not be what is read.

import Glibc
public import SystemPackage

/// Whether both names lead to one file, through links as well. Names of nothing are different.
///
/// The corresponding C function is `stat`; device and inode number decide.
public func isSameFile(_ left: FilePath, _ right: FilePath) -> Bool {
    var leftStatus = stat()
    var rightStatus = stat()
    guard unsafe stat(left.string, &leftStatus) == 0, unsafe stat(right.string, &rightStatus) == 0 else { return false }
    return leftStatus.st_dev == rightStatus.st_dev && leftStatus.st_ino == rightStatus.st_ino
}
