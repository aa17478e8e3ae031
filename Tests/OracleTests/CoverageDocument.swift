enum CoverageDocument { static func checkOrWrite(_ r: [HostRowResult]) throws {} }
