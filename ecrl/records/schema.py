"""What the records hold: event kinds, ledger buckets, result fields and table columns, each defined once.

Events (`events-<attempt>-<rank>.jsonl`, one JSON object a line; `t`, `t0`, ... are stamps of `records.clock`):

    start     rank, attempt, world_size, pid, host, boot_id, real_minus_boot_ns, process_start
              (process_start: when the kernel started the process)
    imported  heavy imports are done, data, model and optimizer made
    group     the process group is up
    ready     process group up, model built: the worker can load
    verified  s, t0, t, state: the newest committed checkpoint was verified ahead of the restore, in a thread
    restored  t0, t, step (0: began afresh), digest_recorded, digest_live, passed_over [{step, reason}]
    step      s, t0, t, loss, ids: step s ran from t0 to t; ids is a digest of the sample ids.
              loss is null where it is read later without a wait (CUDA); then follows
    loss      s, loss
    save      s, t0, t_slot, t_staged, t: the training thread's visit to the engine. [t0, t_slot] waiting for
              a free slot (backpressure), [t_slot, t_staged] copying, [t_staged, t] persisting inline
    fence     s, name, t0, t: the training thread waited for the copy of checkpoint s
    staged    s: the copy of checkpoint s is complete (background engines)
    persisted s, t0, t, bytes: this rank's shard is durable
    committed s: COMMIT.json is durable (rank 0)
    persist_failed  s, reason: counted, training goes on
    removed   s: retention removed checkpoint s (rank 0)
    remove_failed  s, reason: a checkpoint or what is left of one could not be removed; tried again later (rank 0)
    drain     t0, t: after the last step, until nothing is in flight
    failure   index, at, kind, phase: written by the victim right before a planned failure strikes. at: the step
              that was reached; of the checkpoint in its phases, restored in `restore`, 0 in `init`
    final     s, digest (model, optimizer, scheduler: SHA-256), params_digest, rng_digest
    end       the last event of a rank that finished
    error     type, message, trace: an exception ended this rank
    refused   reason: this attempt must not go on (e.g. it follows a crash that nobody planned)

`events-launcher.jsonl` is the supervisor's: prepared (t0, t; before the first run that a warm agent serves, and no
part of that run), spawn (pid, command), worker_failed (local_rank, exitcode; the
instant torchrun reports it), exit (code).
"""

from typing import NotRequired, TypedDict

EVENTS_SCHEMA = 1
RESULT_SCHEMA = 1

# The buckets of the job ledger, in the order a run meets them. They partition wall-clock.
LEDGER_BUCKETS = (
    "startup",
    "compute",
    "replay",
    "lost_step",
    "snapshot_stall",
    "persist_stall",
    "detect",
    "restart",
    "restore",
    "drain",
    "shutdown",
    "other",
)

RUN_COLUMNS = (
    "suite_id",
    "dataset",
    "model",
    "failure_label",
    "failure_steps",
    "checkpoint_every",
    "max_inflight",
    "variant",
    "seed",
    "nproc",
    "steps",
    "device",
    "launcher",
    "outcome",
    "goodput_steps_per_s",
    "goodput_samples_per_s",
    "goodput_steady_steps_per_s",
    "rel_goodput",
    "ettr",
    "ettr_ref",
    "wall_s",
    "stall_s",
    "interference_s",
    "restarts",
    "failures_fired",
    "executed_steps",
    "replayed_steps",
    "lost_interval_steps",
    "lost_in_flight_steps",
    "checkpoints_requested",
    "checkpoints_committed",
    "persist_failures",
    "final_loss",
    "d_end",
    "d_max",
    "d_rms",
    "first_divergent_step",
    "replay_agreement",
    "c1",
    "c2",
    "c3",
    "c4",
    "c5",
    "c6",
    "correct",
    *(f"{bucket}_s" for bucket in LEDGER_BUCKETS),
    "residual_s",
    "wasted_s",
    "block_position",
)

# Metrics that a [[claims]] table may name: numeric columns of the runs table.
CLAIM_METRICS = (
    "goodput_steps_per_s",
    "ettr",
    "ettr_ref",
    "wall_s",
    "stall_s",
    "interference_s",
    "replayed_steps",
    "lost_in_flight_steps",
    "final_loss",
    "d_end",
    "d_max",
    "correct",
    "wasted_s",
    *(f"{bucket}_s" for bucket in LEDGER_BUCKETS),
)

DETAILED_COLUMNS = (
    "dataset",
    "model",
    "failure",
    "blk_goodput",
    "ovl_goodput",
    "ovl_vs_blk",
    "blk_stall_s",
    "ovl_stall_s",
    "ovl_minus_blk_loss_diff",
)

DETAILED_OPTIONAL_COLUMNS = (
    "ref_goodput",
    "blk_wall_s",
    "ovl_wall_s",
    "blk_restarts",
    "ovl_restarts",
    "blk_correct",
    "ovl_correct",
    "n_seeds",
    "suite_id",
    "checkpoint_every",
    "max_inflight",
    "launcher",
)


class Gate(TypedDict):
    """One correctness check: `passed` is None where it does not apply (never a pass); evidence says why."""

    passed: bool | None
    evidence: str


class Result(TypedDict):
    """`result.json`: written last, atomically. outcome: completed or failed (reason says why).

    gates: C1, C2, C3, C5 of this run alone; C4 and C6 need the reference run and are the analysis's.
    token: that of the run.json it belongs to. failure: of a failed run, its kind and the line of a log that says so.
    """

    schema: int
    run_hash: str
    outcome: str
    reason: str
    log: str
    exit_code: int | None
    wall_s: float
    restarts: int
    failures_planned: int
    failures_fired: int
    gates: dict[str, Gate]
    started_at: str
    finished_at: str
    machine: dict[str, object]
    token: NotRequired[int]
    failure: NotRequired[dict[str, str]]
