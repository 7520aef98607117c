"""The run of a campaign that this process is a rank of, for `ecrl.attach` in the script that the run executes."""

from dataclasses import dataclass

from ecrl.checkpoint.sharded.prefetch_verify import PrefetchedVerification
from ecrl.config.run import RunSpec
from ecrl.records.paths import RunPaths
from ecrl.records.recorder import Recorder
from ecrl.worker.attach.job import Job
from ecrl.worker.rank_info import RankInfo


@dataclass
class Session:
    """One rank of one attempt of a run. job: what the script has attached."""

    spec: RunSpec
    paths: RunPaths
    rank_info: RankInfo
    recorder: Recorder
    already_fired: list[int]
    verify: PrefetchedVerification
    job: Job | None = None


_current: list[Session] = []


def begin_session(session: Session) -> None:
    """Make `session` that of this process."""
    _current[:] = [session]


def get_session() -> Session | None:
    """The session of this process; None: its script runs without a campaign."""
    return _current[0] if _current else None
