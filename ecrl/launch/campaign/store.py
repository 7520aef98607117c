"""The frozen matrix of a prefix. It is written before anything runs, and the campaign is loaded from it alone."""

import dataclasses
import hashlib
import re
import shlex
import tomllib
from datetime import UTC, datetime
from pathlib import Path

from ecrl import __version__
from ecrl.config import load as matrix_files
from ecrl.config.matrix import DEFAULT_KIND, Matrix, get_table
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
        write_atomic(_older_path(campaign.paths, len(campaign.older)), campaign.paths.matrix.read_bytes())
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    comments = (
        f"The frozen matrix of campaign {campaign.paths.prefix}: `ecrl matrix resume` reads this and nothing else.\n"
        f"{campaign.origin}\n"
        f"ecrl: {__version__}\nfrozen: {stamp}\nexperiment: {campaign.experiment_hash}"
    )
    write_atomic(campaign.paths.matrix, campaign.matrix.to_toml(comments).encode())


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
    matrix = matrix_files.load(paths.matrix, frozen=True)
    said = read_header(paths)
    origin = "\n".join(f"{k}: {said[k]}" for k in _ORIGIN_KEYS if k in said)
    campaign = Campaign(paths, matrix, origin, _load_older(paths, matrix))
    if campaign.experiment_hash != said.get("experiment"):
        raise RecordError(
            "ECRL-307",
            f"{paths.matrix}: its content does not match the experiment hash in its header; it was edited or damaged.\n"
            f"Undo the edit, or run the edited matrix under another prefix: ecrl matrix run"
            f" {next_prefix(paths).options} {shlex.quote(str(paths.matrix))}",
        )
    return campaign


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


def _older_path(paths: CampaignPaths, number: int) -> Path:
    return paths.table(f"matrix.{number}.toml")


def _load_older(paths: CampaignPaths, newest: Matrix) -> tuple[Matrix, ...]:
    """The matrices that `newest` extends, oldest first."""
    kept: list[Matrix] = []
    while (path := _older_path(paths, len(kept) + 1)).is_file():
        kept.append(matrix_files.load(path, frozen=True))
    # If ecrl was killed between keeping a matrix and freezing the next one, the last kept matrix is still the frozen
    # one.
    return tuple(matrix for matrix in kept if matrix.content != newest.content)


def read_header(paths: CampaignPaths) -> dict[str, str]:
    """The comments in the header of a frozen matrix, by key."""
    comments = (line[2:] for line in paths.matrix.read_text().splitlines() if line.startswith("# "))
    return {m[1]: m[2] for m in (re.fullmatch(r"(\w+): (.*)", c) for c in comments) if m}


def next_prefix(paths: CampaignPaths) -> CampaignPaths:
    """The paths of a prefix that is not in use: exp4 -> exp4-2."""
    stem = re.sub(r"-\d+$", "", paths.prefix)
    number = 2
    while (paths.results / f"{stem}-{number}").exists():
        number += 1
    return dataclasses.replace(paths, prefix=f"{stem}-{number}")
