"""Run a user's training script as one rank of a run: as `__main__`, with its arguments, in this process."""

import gc
import random
import runpy
import sys
from pathlib import Path

import numpy as np
import torch
import torch._dynamo

from ecrl.config.job import JobSettings, compute_script_digest
from ecrl.errors import EcrlError
from ecrl.worker.attach.session import Session, begin_session


def run_script(session: Session) -> int:
    """Run the script of the session's run. Returns the instant at which its training ended.

    Raises:
        EcrlError: the script did not train as its run asks, or failed after it had.
    """
    job = session.spec.job
    assert job is not None
    copy = session.paths.campaign.script
    if compute_script_digest(copy) != job.sha256:
        raise EcrlError("ECRL-661", f"{copy}: is not the script of the campaign any more; restore its bytes.")
    begin_session(session)
    _prepare_process(session, copy, job)
    try:
        runpy.run_path(str(copy), run_name="__main__")
    except SystemExit as leaving:
        if leaving.code not in (None, 0):
            raise _describe_failure(session, leaving) from leaving
    except Exception as error:
        if session.job is None or session.job.ended_ns is None:
            raise
        raise _describe_failure(session, error) from error
    return _find_end(session)


def _prepare_process(session: Session, copy: Path, job: JobSettings) -> None:
    sys.argv = [str(copy), *job.args]
    sys.path.insert(0, str(Path(job.script).parent))  # modules beside the original can be imported
    # Whatever the script does not seed itself is equal on all ranks, in all variants, and in every attempt.
    random.seed(session.spec.seed)
    np.random.seed(session.spec.seed % 2**32)
    torch.manual_seed(session.spec.seed)
    if session.spec.train.deterministic:
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    gc.freeze()
    gc.enable()


def _describe_failure(session: Session, error: BaseException) -> EcrlError:
    when = "failed after training" if session.job and session.job.ended_ns is not None else "failed"
    what = f"exit code {error.code}" if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
    return EcrlError("ECRL-658", f"script {when}: {what}")


def _find_end(session: Session) -> int:
    if session.job is None:
        raise EcrlError(
            "ECRL-657",
            "the script ended and never called ecrl.attach, expected one call and a loop over what it returns.",
        )
    if session.job.ended_ns is None:
        raise EcrlError(
            "ECRL-657",
            f"the script ended after step {session.job.step} of its loop, expected {session.job.steps} steps"
            " (`steps` of ecrl.attach) and the loop's own end.",
        )
    return session.job.ended_ns
