"""A process that was started for one run, as the rest of ecrl sees it."""

from typing import Any, Protocol, runtime_checkable


class Process(Protocol):
    """What was started for one run: a `subprocess.Popen`, or a part of a process that serves many runs."""

    @property
    def args(self) -> Any:
        """Its command line."""

    @property
    def pid(self) -> int:
        """The process at the root of everything that belongs to the run."""

    def poll(self) -> int | None:
        """The run's exit code, or None while it goes on."""

    def wait(self) -> int:
        """The run's exit code, as soon as it has ended."""


@runtime_checkable
class StopsOwnChildren(Protocol):
    """A run that ends while its process goes on."""

    def exit_fd(self) -> int:
        """A new descriptor that is readable once the run has ended."""
