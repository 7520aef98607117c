-- Goodput, replayed steps and ettr_ref of every run, from docs/metrics.md ("The time ledger", "Goodput and ETTR",
-- "Replay and lost work"). Nothing here is taken from ecrl's Python code.
-- $events, $specs, $results: the paths of all events files, run.json and result.json.
WITH
event AS (
    SELECT
        regexp_replace(filename, '/[^/]+$', '') AS run,
        try_cast(regexp_extract(filename, 'events-(\d+)-\d+\.jsonl$', 1) AS BIGINT) AS attempt, -- NULL: the launcher's
        try_cast(regexp_extract(filename, 'events-\d+-(\d+)\.jsonl$', 1) AS BIGINT) AS rank,
        e, t, t0, s, boot_id
    FROM read_json(
        $events, format = 'newline_delimited', filename = true, ignore_errors = true,
        columns = {e: 'VARCHAR', t: 'BIGINT', t0: 'BIGINT', s: 'BIGINT', boot_id: 'VARCHAR'}
    )
    WHERE t IS NOT NULL AND coalesce(t0, t) <= t
),
spec AS (
    SELECT
        regexp_replace(filename, '/[^/]+$', '') AS run,
        content ->> '$.run_hash' AS hash,
        content ->> '$.token' AS token,
        content ->> '$.device' AS device,
        content ->> '$.variant' AS variant,
        (content -> '$.train.nproc')::BIGINT AS nproc
    FROM (SELECT filename, try_cast(content AS JSON) AS content FROM read_text($specs))
),
-- A result counts while it names the hash of its run, and the attempt that owns the folder.
result AS (
    SELECT spec.run, content ->> '$.outcome' AS outcome, (content ->> '$.gates.C1.passed') = 'true' AS passes_c1
    FROM (
        SELECT regexp_replace(filename, '/[^/]+$', '') AS run, try_cast(content AS JSON) AS content
        FROM read_text($results)
    ) AS file
    JOIN spec USING (run)
    WHERE content ->> '$.run_hash' = spec.hash
        AND coalesce(nullif(content ->> '$.token', '0'), spec.token, '') = coalesce(spec.token, '')
),
-- W: from the event `spawn` to `exit`. Stamps of two boots are never subtracted.
wall AS (
    SELECT
        run,
        max(t) FILTER (e = 'spawn') AS spawn_t,
        max(t) FILTER (e = 'exit' AND attempt IS NULL) - max(t) FILTER (e = 'spawn') AS wall_ns
    FROM event
    GROUP BY run
    HAVING count(DISTINCT boot_id) < 2
),
step AS (SELECT * FROM event WHERE e = 'step' AND attempt IS NOT NULL AND s IS NOT NULL AND t0 IS NOT NULL),
-- On the CPU a step counts as executed when a rank recorded it, on a GPU when every rank did.
executed AS (
    SELECT run, attempt, s
    FROM step JOIN spec USING (run)
    GROUP BY run, attempt, s, device, nproc
    HAVING device = 'cpu' OR count(DISTINCT rank) = nproc
),
counted AS (
    SELECT run, count(DISTINCT s) AS useful, count(*) - count(DISTINCT s) AS replayed FROM executed GROUP BY run
),
-- tref: mean of compute seconds per step of the reference run, without its first step. A reference is never restarted.
first_step AS (
    SELECT run, min(s) AS first_s
    FROM step JOIN spec USING (run)
    WHERE variant = 'reference'
    GROUP BY run
    HAVING count(DISTINCT attempt) = 1
),
steady AS (
    SELECT
        run,
        coalesce(min(t0) FILTER (s <> first_s), min(t0)) AS begin_t,
        greatest(count(DISTINCT s) - 1, 1) AS steps
    FROM step JOIN first_step USING (run)
    GROUP BY run
),
-- The job computes while a rank is in a step and no rank is in a higher state: startup, a stall, the drain.
entered AS (SELECT run, max(t0) AS t FROM (SELECT run, rank, min(t0) AS t0 FROM step GROUP BY run, rank) GROUP BY run),
span AS (
    SELECT run, t0, t, 1 AS computes, 0 AS higher FROM step
    UNION ALL
    SELECT run, t0, t, 0, 1 FROM event WHERE e IN ('save', 'fence', 'drain') AND t0 IS NOT NULL
    UNION ALL
    SELECT run, spawn_t, entered.t, 0, 1 FROM wall JOIN entered USING (run)
),
edge AS (
    SELECT run, t, sum(computes) AS computes, sum(higher) AS higher
    FROM (
        SELECT run, greatest(t0, begin_t) AS t, computes, higher FROM span JOIN steady USING (run) WHERE t > begin_t
        UNION ALL
        SELECT run, t, -computes, -higher FROM span JOIN steady USING (run) WHERE t > begin_t
    )
    GROUP BY run, t
),
stretch AS (
    SELECT
        run,
        lead(t) OVER own - t AS ns,
        sum(computes) OVER own AS computes,
        sum(higher) OVER own AS higher
    FROM edge
    WINDOW own AS (PARTITION BY run ORDER BY t)
),
tref AS (
    SELECT run, sum(ns) / any_value(steps) / 1e9 AS tref_s
    FROM stretch JOIN steady USING (run)
    WHERE computes > 0 AND higher = 0 AND ns IS NOT NULL
    GROUP BY run
)
SELECT
    spec.run,
    CASE WHEN result.outcome = 'completed' AND wall_ns > 0 THEN useful / (wall_ns / 1e9) END AS goodput_steps_per_s,
    coalesce(replayed, 0) AS replayed_steps,
    CASE
        WHEN result.outcome = 'completed' AND wall_ns > 0
            AND (spec.variant = 'reference' OR (theirs.outcome = 'completed' AND theirs.passes_c1))
        THEN useful * tref_s / (wall_ns / 1e9)
    END AS ettr_ref
FROM spec
LEFT JOIN result USING (run)
LEFT JOIN wall USING (run)
LEFT JOIN counted USING (run)
LEFT JOIN result AS theirs ON theirs.run = regexp_replace(spec.run, '/[^/]+/([^/]+)$', '/reference/\1')
LEFT JOIN tref ON tref.run = regexp_replace(spec.run, '/[^/]+/([^/]+)$', '/reference/\1')
