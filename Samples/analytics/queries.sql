-- Exits of each trace by reason.
SELECT trace, reason, count(*) AS exits, sum(retired) AS instructions FROM step GROUP BY ALL ORDER BY trace, exits DESC;

-- The ports that exit most, over all traces.
SELECT printf('0x%x', port) AS port, is_input, count(*) AS exits, count(DISTINCT trace) AS traces
FROM step WHERE port IS NOT NULL GROUP BY ALL ORDER BY exits DESC LIMIT 10;

-- The instructions that exit most.
SELECT printf('0x%x', cs_base + rip) AS address, reason, count(*) AS exits
FROM step WHERE cs_base + rip < 18446744073709551615 GROUP BY ALL ORDER BY exits DESC LIMIT 10;

-- Instructions between two exits, by trace.
SELECT trace, median(retired) AS median, max(retired) AS most FROM step WHERE entered GROUP BY trace ORDER BY trace;
