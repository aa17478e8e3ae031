-- The same table in ClickHouse, filled from the partitions that to_parquet.py writes:
--   INSERT INTO step SELECT *, extract(_path, 'trace=([^/]+)') AS trace FROM file('exits/*/*.parquet', Parquet)
CREATE TABLE step
(
    number UInt64, vcpu UInt32, reason LowCardinality(String), code UInt64, port Nullable(UInt16), is_input Nullable(Bool),
    operand_bytes Nullable(UInt8), gpa Nullable(UInt64), access LowCardinality(Nullable(String)), msr Nullable(UInt32),
    value Nullable(UInt64), cs_base Nullable(UInt64), rip Nullable(UInt64), rflags Nullable(UInt64), retired Nullable(UInt64),
    clock UInt64 CODEC(Delta, ZSTD), event LowCardinality(Nullable(String)), vector Nullable(UInt8),
    committed LowCardinality(Nullable(String)), cached LowCardinality(Nullable(String)), entered Bool,
    guest_ns Nullable(UInt64), vmm_ns Nullable(UInt64), trace LowCardinality(String)
)
ENGINE = MergeTree ORDER BY (trace, number);
