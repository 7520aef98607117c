"""The frozen matrix of a prefix. It is written before anything runs, and the campaign is loaded from it alone."""

import hashlib
import tomllib
from datetime import UTC, datetime
from pathlib import Path

from ecrl import __version__
from ecrl.config.frozen import get_older_path, load_frozen_matrix
from ecrl.config.job import compute_script_digest
from ecrl.config.matrix import DEFAULT_KIND, get_table
from ecrl.config.registration import find_registration, get_kept_path
from ecrl.errors import EcrlError, RecordError
from ecrl.launch.campaign.campaign import Campaign
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import CampaignPaths
from ecrl.storage.atomic import write_atomic

_ORIGIN_KEYS = ("source", "profile", "overrides")


def freeze(campaign: Campaign, *, extends: bool = False) -> None:
    """Write a campaign's frozen matrix; creates the folder if needed.

    extends: the existing frozen matrix is the last one of `older`, and is kept under a numbered name.
    """
    campaign.paths.root.mkdir(parents=True, exist_ok=True)
    if extends:
        write_atomic(get_older_path(campaign.paths, len(campaign.older)), campaign.paths.matrix.read_bytes())
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    comments = (
        f"The frozen matrix of campaign {campaign.paths.prefix}: `ecrl matrix resume` reads this and nothing else.\n"
        f"{campaign.origin}\n"
        f"ecrl: {__version__}\nfrozen: {stamp}\norders: {campaign.order_rule}\nexperiment: {campaign.experiment_hash}"
    )
    if (job := campaign.matrix.job_settings) is not None and not campaign.paths.script.is_file():
        write_atomic(campaign.paths.script, Path(job.script).read_bytes())
    write_atomic(campaign.paths.matrix, campaign.matrix.to_toml(comments).encode())


def keep_registration(campaign: Campaign, source: Path | None) -> None:
    """Copy the registration beside the matrix file into a campaign's folder, if it registers a suite of it.

    Call it when a campaign is frozen for the first time.
    """
    # One that registers other claims or seeds is kept too: the report then shows what was changed.
    found = find_registration(source)
    if found is not None and found.covers(campaign.matrix):
        found.write(get_kept_path(campaign.paths))


def describe_edited_script(campaign: Campaign) -> str | None:
    """What to say of a script that is not any more what its campaign runs; None: there is nothing to say."""
    job = campaign.matrix.job_settings
    if job is None or (Path(job.script).is_file() and compute_script_digest(Path(job.script)) == job.sha256):
        return None
    return f"{job.script} was changed since; the campaign goes on with its copy, {campaign.paths.script}"


def compute_frozen_digest(paths: CampaignPaths) -> str:
    """SHA-256 of a prefix's frozen matrix file, '' if there is none. It changes when another ecrl freezes a matrix."""
    try:
        return hashlib.sha256(paths.matrix.read_bytes()).hexdigest()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""


def load_frozen(paths: CampaignPaths) -> Campaign:
    """The campaign that a prefix holds.

    Raises:
        EcrlError: there is no such prefix.
        RecordError: its frozen matrix was edited or damaged.
    """
    if not paths.matrix.is_file():
        raise EcrlError("ECRL-301", manifest.no_such_prefix_message(paths))
    found = load_frozen_matrix(paths)
    origin = "\n".join(f"{k}: {found.header[k]}" for k in _ORIGIN_KEYS if k in found.header)
    return Campaign(paths, found.matrix, origin, found.older, found.order_rule)


def read_kind(paths: CampaignPaths) -> str:
    """The kind of experiment that a prefix holds. The rest of its frozen matrix is not validated.

    Raises:
        RecordError: the frozen matrix is not there, or is no TOML.
    """
    try:
        raw = tomllib.loads(paths.matrix.read_text())
    except (OSError, ValueError) as error:
        raise RecordError(
            "ECRL-307",
            f"{paths.matrix}: cannot be read as the frozen matrix of {paths.prefix} ({error}).\n"
            f"Restore it. The campaign's state is shown without it: ecrl matrix status {paths.options}",
        ) from error
    return str(get_table(raw, "experiment").get("kind", DEFAULT_KIND))  # an older ecrl wrote no such table
