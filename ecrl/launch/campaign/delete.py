"""Deletes a campaign."""

import shutil
from pathlib import Path

from ecrl.errors import EcrlError
from ecrl.launch.campaign.contents import require_folder
from ecrl.launch.campaign.lock import prefix_lease
from ecrl.launch.system.process_group import end_orphans
from ecrl.records.paths import CampaignPaths
from ecrl.records.places import remove_tree


def delete(paths: CampaignPaths) -> None:
    """Remove a campaign's folder with all that is in it, and its runs' checkpoints on other disks.

    Links are removed; what else they lead to stays.

    Raises:
        EcrlError: there is no such campaign, its folder is a link, or something cannot be removed.
        PrefixHeldError: an ecrl works on the campaign.
    """
    require_folder(paths)
    try:
        with prefix_lease(paths):
            end_orphans(paths.root.resolve())  # they would go on writing
            _remove_content(paths)
    except OSError as error:
        raise EcrlError(
            "ECRL-342",
            f"{error.filename or paths.root}: cannot be removed: {error.strerror}.\n"
            "Part of the campaign may be gone. Put that right, then type the same command again.",
        ) from error


def _remove_content(paths: CampaignPaths) -> None:
    # The frozen matrix goes last: without it, what a killed delete has left would be no campaign, and stay.
    for path in sorted(paths.root.iterdir()):
        if path not in (paths.matrix, paths.lock):
            _remove(path)
    paths.matrix.unlink()
    shutil.rmtree(paths.root)


def _remove(path: Path) -> None:
    if not path.is_symlink() and path.is_dir():
        remove_tree(path)
    else:
        path.unlink()
