"""When a job takes its checkpoints."""

from ecrl.checkpoint.engine import Engine


class Interval:
    """Every rank of a job asks after every step, and all get the same answers.

    last: whether the state after the last step is saved in any case.
    """

    def __init__(self, engine: Engine, *, last: bool) -> None:
        self._engine, self._last = engine, last
        self._newest = 0

    def is_due(self, step: int) -> bool:
        """Whether the checkpoint of `step` is to be taken."""
        return self._engine.is_due(step)

    def note_save(self, step: int) -> None:
        """Note that the checkpoint of `step` was taken."""
        self._newest = step

    def wants_last(self, step: int) -> bool:
        """Whether the state after the last step is still to be saved. step: the last one."""
        return self._last and self._newest < step
