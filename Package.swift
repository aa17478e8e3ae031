// swift-tools-version: 6.2
import PackageDescription

/// Every target of ours: Swift 6 language mode comes with the tools version; memory-unsafe
/// constructs must be spelled `unsafe`, imports must be direct.
let strict: [SwiftSetting] = [
    .strictMemorySafety(),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
]

let package = Package(
    name: "exit-tracer",
    products: [
        .library(name: "Analysis", targets: ["Analysis"]),
        .library(name: "Corpus", targets: ["Corpus"]),
        .library(name: "NVMM", targets: ["NVMM"]),
        .library(name: "ReferenceVMM", targets: ["ReferenceVMM"]),
        .library(name: "SoftBackend", targets: ["SoftBackend"]),
        .library(name: "Tracer", targets: ["Tracer"]),
        .library(name: "TraceFile", targets: ["TraceFile"]),
        .library(name: "Replay", targets: ["Replay"]),
        .library(name: "vmtrace", type: .dynamic, targets: ["Interposer"]),
        .executable(name: "tracectl", targets: ["tracectl"]),
        // For clients in C: Scripts/install.sh links it into a libnvmm.so that carries its Swift runtime.
        .library(name: "nvmm", type: .static, targets: ["LibNVMM"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
        .package(url: "https://github.com/LebJe/TOMLKit", from: "0.6.0"),
    ],
    targets: [
        // Doors to C libraries: module maps and the few macros that Swift cannot import.
        .systemLibrary(name: "CZydis", providers: [.apt(["libzydis-dev"])]),
        .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
        .systemLibrary(name: "CSQLite", pkgConfig: "sqlite3", providers: [.apt(["libsqlite3-dev"])]),
        .systemLibrary(name: "CXXHash", pkgConfig: "libxxhash", providers: [.apt(["libxxhash-dev"])]),
        // The interface's C headers; the only source asserts their layout.
        .target(name: "CNVMM"),
        // The ring between the preloaded shim and the drainer, both sides.
        .target(name: "CRing"),
        // Pages of guest memory that a client wrote, as the kernel can tell them.
        .target(name: "CWriteTracking"),
        // The client's threads, where it takes C: their numbers, and the signals that they take.
        .target(name: "CClientThreads"),
        // The structures and calls of Linux's /dev/kvm.
        .target(name: "CKVM"),
        // What is preloaded into a client; no Swift in it.
        .target(
            name: "Interposer", dependencies: ["CNVMM", "CRing"],
            // A package's libraries are linked with Swift's runtime, which no client should have to load for C.
            linkerSettings: [
                .linkedLibrary("dl", .when(platforms: [.linux])),
                .unsafeFlags(["-nostartfiles", "-static-stdlib", "-Xlinker", "--as-needed"]),
            ]),

        // The rooms, lowest first; a room imports only what stands in its list (ARCHITECTURE.md).
        .target(name: "NVMM", swiftSettings: strict),
        .target(name: "Database", dependencies: ["CSQLite"], swiftSettings: strict),
        // Made by protoc from the file beside it.
        .target(
            name: "PerfettoFormat", dependencies: [.product(name: "SwiftProtobuf", package: "swift-protobuf")],
            exclude: ["perfetto.proto"]),
        .target(name: "Disassembly", dependencies: ["CZydis", "NVMM"], swiftSettings: strict),
        .target(name: "SoftBackend", dependencies: ["CWriteTracking", "CZydis", "NVMM"], swiftSettings: strict),
        .target(name: "KVMBackend", dependencies: ["CKVM", "NVMM", "SoftBackend"], swiftSettings: strict),
        .target(name: "Assists", dependencies: ["CZydis", "NVMM", "SoftBackend"], swiftSettings: strict),
        .target(name: "ReferenceVMM", dependencies: ["Assists", "NVMM"], swiftSettings: strict),
        .target(
            name: "TraceFile",
            dependencies: [
                "CXXHash", "CZstd", "Database", "NVMM",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: strict),
        .target(
            name: "Tracer",
            dependencies: [
                "CRing", "NVMM", "TraceFile",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: strict),
        .target(
            name: "LibNVMM",
            dependencies: [
                "Assists", "CClientThreads", "CNVMM", "CWriteTracking", "NVMM", "Replay", "SoftBackend", "TraceFile",
                "Tracer",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: strict),
        .target(
            name: "Replay",
            dependencies: [
                "Assists", "Disassembly", "NVMM", "TraceFile",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: strict),
        .target(
            name: "Analysis",
            dependencies: [
                "Database", "NVMM", "PerfettoFormat", "Replay", "TraceFile",
                .product(name: "Histogram", package: "hdrhistogram-swift"),
                .product(name: "SwiftProtobuf", package: "swift-protobuf"),
                .product(name: "TOMLKit", package: "TOMLKit"),
            ],
            swiftSettings: strict),
        .target(
            name: "Corpus",
            dependencies: [
                "Database", "TraceFile",
                .product(name: "SystemPackage", package: "swift-system"),
                .product(name: "TOMLKit", package: "TOMLKit"),
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "tracectl",
            dependencies: [
                "Analysis", "Corpus", "Database", "KVMBackend", "LibNVMM", "NVMM", "ReferenceVMM", "Replay",
                "SoftBackend", "TraceFile", "Tracer",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: strict),

        // Tests mirror the rooms.
        .target(name: "TestSupport", dependencies: ["NVMM"], path: "Tests/TestSupport", swiftSettings: strict),
        .target(
            name: "TraceTestSupport",
            dependencies: [
                "NVMM", "TestSupport", "TraceFile", "Tracer",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            path: "Tests/TraceTestSupport", swiftSettings: strict),
        .target(name: "CHostOracle", path: "Tests/CHostOracle"),
        .testTarget(name: "NVMMTests", dependencies: ["NVMM", "TestSupport"], swiftSettings: strict),
        .testTarget(
            name: "DisassemblyTests", dependencies: ["Disassembly", "NVMM", "TestSupport"], swiftSettings: strict),
        .testTarget(
            name: "AssistsTests", dependencies: ["Assists", "NVMM", "SoftBackend", "TestSupport"], swiftSettings: strict
        ),
        .testTarget(
            name: "SoftBackendTests", dependencies: ["NVMM", "SoftBackend", "TestSupport"], swiftSettings: strict),
        .testTarget(
            name: "ConformanceTests", dependencies: ["Assists", "KVMBackend", "NVMM", "SoftBackend", "TestSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "OracleTests", dependencies: ["CHostOracle", "CZydis", "NVMM", "SoftBackend", "TestSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "ReferenceVMMTests", dependencies: ["Assists", "NVMM", "ReferenceVMM", "SoftBackend", "TestSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "TraceFileTests",
            dependencies: [
                "CXXHash", "CZstd", "Database", "NVMM", "TestSupport", "TraceFile",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: strict),
        .testTarget(
            name: "TracerTests",
            dependencies: [
                "CRing", "NVMM", "ReferenceVMM", "SoftBackend", "TestSupport", "TraceFile", "Tracer",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: strict),
        .testTarget(
            name: "ReplayTests",
            dependencies: [
                "NVMM", "ReferenceVMM", "Replay", "SoftBackend", "TestSupport", "TraceFile",
                "TraceTestSupport", "Tracer",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: strict),
        .testTarget(
            name: "AnalysisTests",
            dependencies: [
                "Analysis", "NVMM", "ReferenceVMM", "Replay", "SoftBackend", "TestSupport", "TraceFile",
                "TraceTestSupport", "Tracer",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: strict),
        .testTarget(
            name: "CorpusTests",
            dependencies: [
                "Corpus", "TestSupport",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: strict),
        .testTarget(name: "EndToEnd", dependencies: ["TestSupport"], swiftSettings: strict),
        .testTarget(name: "TidyTests", dependencies: [], swiftSettings: strict),
    ]
)
