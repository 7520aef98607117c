"""Whether a run has a result that need not be made again."""

from ecrl.launch.runs.run import Run
from ecrl.records.reader import read_result
from ecrl.records.result import Result


def get_reusable_result(run: Run, retry_failed: bool) -> Result | None:
    """The run's result if the run need not be made again, else None."""
    result = read_result(run.paths, run.spec.hash)
    return None if result is None or (result["outcome"] == "failed" and retry_failed) else result
