"""ecrl: elastic checkpoint & recovery lab."""

from typing import TYPE_CHECKING

from ecrl.version import VERSION

if TYPE_CHECKING:
    import os

    from ecrl.analysis.campaign_frames import Campaign

__all__ = ["__version__", "load"]
__version__ = VERSION


def load(path: "str | os.PathLike[str]") -> "Campaign":
    """Load the campaign in the folder `results/<prefix>` as pandas frames.

    The frames are `.runs`, `.summary`, `.suites`, `.claims`, `.threats`, `.events(run)` and `.steps(run)`
    (docs/data.md). They are built from the records, not from a report's tables; a running campaign can be loaded too.

    Raises:
        ecrl.errors.EcrlError: the folder holds no campaign, or its frozen matrix cannot be read.
    """
    # Imported here: `import ecrl` must stay fast in a training script.
    from ecrl.analysis.campaign_frames import open_campaign

    return open_campaign(path)
