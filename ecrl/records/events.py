"""The events of a run: every kind and its fields.

Events (`events-<attempt>-<rank>.jsonl`, one JSON object a line; `t`, `t0`, ... are stamps of `records.clock`):

    start     rank, attempt, world_size, pid, host, boot_id, real_minus_boot_ns, process_start
              (process_start: when the kernel started the process)
    imported  heavy imports are done, data and model made
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
              that was reached; of the checkpoint in its phases, restored in `restore`, 0 in `init`.
              ends_attempt: false where the attempt goes on after it; else absent
    final     s, digest (model, optimizer, scheduler: SHA-256), params_digest, rng_digest
    end       the last event of a rank that finished
    error     type, message, trace: an exception ended this rank
    refused   reason: this attempt must not go on (e.g. it follows a crash that nobody planned)

`events-launcher.jsonl` is the supervisor's: prepared (t0, t; before the first run that a warm agent serves, and no
part of that run), spawn (pid, command), worker_failed (local_rank, exitcode; the
instant torchrun reports it), exit (code).
"""

EVENTS_SCHEMA = 1
