"""The events of a run: every kind and its fields.

Events (`events-<attempt>-<rank>.jsonl`, one JSON object a line; `t`, `t0`, ... are stamps of `records.clock`):

    start     rank, attempt, world_size, pid, host, boot_id, real_minus_boot_ns, process_start
              (process_start: when the kernel started the process)
    imported  heavy imports are done, data and model made
    group     the process group is up
    attached  replicated (the model is the same on all ranks), rebuckets (a restart may change the order of its sums):
              a script called `ecrl.attach`; it has no `imported` and `group` of its own, both are recorded then
    ready     process group up, model built: the worker can load
    verified  s, t0, t, state: a thread verified the newest committed checkpoint before the restore
    restored  t0, t, step (0: started from the beginning), digest_recorded, digest_live, passed_over [{step, reason}]
    step      s, t0, t, loss, ids: step s ran from t0 to t; ids is a digest of the sample ids (absent: a script's).
              loss is null if it is read later, without a wait (CUDA); a `loss` event then follows.
              skipped: true if the gradients overflowed in fp16, so the weights stayed; otherwise absent
    loss      s, loss
    save      s, t0, t_slot, t_staged, t: the training thread's visit to the engine. [t0, t_slot] waiting for
              a free slot (backpressure), [t_slot, t_staged] copying, [t_staged, t] persisting inline
    fence     s, name, t0, t: the training thread waited for the copy of checkpoint s
    staged    s: the copy of checkpoint s is complete (background engines)
    persisted s, t0, t, bytes: this rank's shard is durable
    committed s: COMMIT.json is durable (rank 0). place: the folder, if it is not the preferred one
    rerouted  s, reason, to: a place refused checkpoint s; every rank writes it to the folder `to`
    persist_failed  s, reason: the checkpoint was given up; training continues
    removed   s: retention removed checkpoint s (rank 0)
    remove_failed  s, reason: a checkpoint, or the rest of one, could not be removed; tried again later (rank 0)
    drain     t0, t: after the last step, until nothing is in flight
    failure   index, at, kind, phase: the victim writes it right before a planned failure strikes. at: the step that
              was reached; in the phases of a checkpoint, that checkpoint's step; in `restore`, the restored step; in
              `init`, 0. ends_attempt: false if the attempt continues after the failure; otherwise absent
    final     s, digest (model, optimizer, scheduler: SHA-256), params_digest, rng_digest
    end       the last event of a rank that finished
    error     type, message, trace: an exception ended this rank
    refused   reason: this attempt must not continue (e.g. it follows an unplanned crash)

The supervisor writes `events-launcher.jsonl`: prepared (t0, t; before the first run of a warm agent, not part of that
run), spawn (pid, command), worker_failed (local_rank, exitcode; the instant of torchrun's report), paused (t0, t: the
supervisor itself stood still), exit (code, seen). The stamp of `exit` is that of the last rank's `end`; for a run that
did not finish, the instant at which the supervisor saw its end, or of its last record if the supervisor stood still
then. seen: when the supervisor saw it. Older records lack it, and have that instant as the stamp.
"""

EVENTS_SCHEMA = 1
