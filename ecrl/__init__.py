"""ecrl: elastic checkpoint & recovery lab."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from ecrl.analysis.campaign_frames import Campaign

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def load(path: "str | os.PathLike[str]") -> "Campaign":
    """The campaign in the folder `results/<prefix>` as pandas frames: `.runs`, `.summary`, `.suites`, `.claims`,
    `.threats`, `.events(run)` and `.steps(run)` (docs/data.md).

    It reads the records, not the tables that a report wrote, so a campaign that is still running can be loaded.

    Raises:
        ecrl.errors.EcrlError: there is no campaign in that folder, or its frozen matrix no longer reads.
    """
    # Here, so that `import ecrl` stays quick in a training script.
    from ecrl.analysis.campaign_frames import open_campaign

    return open_campaign(path)
