// swift-tools-version: 6.2
import PackageDescription

let package = Package(
    name: "exit-tracer-benchmarks",
    dependencies: [.package(name: "exit-tracer", path: "..")],
    targets: [
        // The row layout that the format is compared with is compressed here, with the same library and level.
        .systemLibrary(name: "CRowZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
        .executableTarget(
            name: "Figures",
            dependencies: [
                "CRowZstd",
                .product(name: "Analysis", package: "exit-tracer"),
                .product(name: "NVMM", package: "exit-tracer"),
                .product(name: "ReferenceVMM", package: "exit-tracer"),
                .product(name: "Replay", package: "exit-tracer"),
                .product(name: "SoftBackend", package: "exit-tracer"),
                .product(name: "TraceFile", package: "exit-tracer"),
                .product(name: "Tracer", package: "exit-tracer"),
            ]),
    ]
)
