"""Torture: programs that try to break a promise and print a verdict. `make torture` runs the full versions.

    python -m tests.torture.corruption    250 of 250 damaged checkpoints are noticed, and all ranks fall back alike
    python -m tests.torture.kills         200 x SIGKILL inside staging, persist, commit, retention and restore
    python -m tests.torture.torn          1,000 overlapped saves of a state that tells its own step
    python -m tests.torture.durability    strace: nothing is written after the last fsync, COMMIT.json comes last
    python -m tests.torture.memory        100 saves leave memory where it was
    python -m tests.torture.accounting    every checkpoint asked for is committed or counted as failed
    python -m tests.torture.replay        what failures take back is what docs/metrics.md expects

Each takes --seed and sizes (-h), prints one line that begins with PASS or FAIL, and exits 0 or 1.
"""
