"""The interface of a kind of failure."""

from collections.abc import Sequence


class FailureKind:
    """What happens when a planned failure strikes. One file a kind in `kinds/`, exporting one `PLUGIN`."""

    description: str

    def strike(self, peers: Sequence[int]) -> None:
        """Do it to the processes `peers` (of the other ranks, where several are meant), then to the calling
        one, from whichever thread of it. May not return."""
        raise NotImplementedError
