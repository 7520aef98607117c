"""The names in the results folder (results/<prefix>/...). Only this module spells the paths of a campaign."""

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from ecrl.errors import EcrlError

_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
WARMUPS = "warmups"
CHECKPOINTS = "checkpoints"
_EVENTS = re.compile(r"events-(\d+)-(\d+)\.jsonl")


@dataclass(frozen=True)
class RunPaths:
    """The files of one run."""

    folder: Path

    @property
    def spec(self) -> Path:
        return self.folder / "run.json"

    @property
    def result(self) -> Path:
        return self.folder / "result.json"

    @property
    def campaign(self) -> "CampaignPaths":
        """The campaign of the run. Its results folder is relative to the current folder if it lies below that."""
        depth = 1 if self.folder.parent.name == WARMUPS else 3
        root = self.folder.parents[depth]
        return CampaignPaths(shorten_path(root.parent), root.name)

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def torchrun_log(self) -> Path:
        return self.logs / "torchrun.log"

    @property
    def checkpoints(self) -> Path:
        return self.checkpoint_link(0)

    def checkpoint_link(self, number: int) -> Path:
        """The folder of checkpoints, or the link to its place (0), or the link to a fallback's place (1, ...)."""
        return self.folder / (f"{CHECKPOINTS}-{number}" if number else CHECKPOINTS)

    @property
    def launcher_events(self) -> Path:
        return self.folder / "events-launcher.jsonl"

    def events(self, attempt: int, rank: int) -> Path:
        """The events of one rank in one attempt."""
        return self.folder / f"events-{attempt}-{rank}.jsonl"

    def all_events(self) -> dict[tuple[int, int], Path]:
        """Every existing events file by (attempt, rank), in that order."""
        found = ((_EVENTS.fullmatch(path.name), path) for path in self.folder.glob("events-*.jsonl"))
        return dict(sorted(((int(m[1]), int(m[2])), path) for m, path in found if m))


@dataclass(frozen=True)
class CampaignPaths:
    """The files of one prefix."""

    results: Path
    prefix: str

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise EcrlError(
                "ECRL-302",
                f"--prefix: found {self.prefix!r}, expected letters, digits, '.', '_' and '-' (at most 100, no slash);"
                f" the prefix names a folder in {self.results}/. Try --prefix {_suggest(self.prefix)}",
            )

    @property
    def root(self) -> Path:
        return self.results / self.prefix

    @property
    def options(self) -> str:
        """The command-line options that select this campaign, for commands typed in the current folder."""
        results = "" if str(self.results) == "results" else f" --results {shlex.quote(str(self.results))}"
        return f"--prefix {self.prefix}{results}"

    @property
    def matrix(self) -> Path:
        return self.root / f"{self.prefix}_matrix.toml"

    @property
    def script(self) -> Path:
        """The copy of the user's training script, if the campaign runs one."""
        return self.table("script.py")

    @property
    def manifest(self) -> Path:
        return self.root / f"{self.prefix}_manifest.csv"

    @property
    def journal(self) -> Path:
        return self.root / f"{self.prefix}_manifest.journal"

    @property
    def lock(self) -> Path:
        return self.root / f"{self.prefix}.lock"

    @property
    def probe(self) -> Path:
        """The probe's results for this machine, kept for the next start."""
        return self.root / "probe.json"

    @property
    def calibration(self) -> Path:
        """How often a campaign of this shape errs, which the report shows."""
        return self.table("calibration.json")

    @property
    def log(self) -> Path:
        """The output of an ecrl process that has no terminal."""
        return self.table("ecrl.log")

    @property
    def suites(self) -> Path:
        return self.root / "suites"

    @property
    def warmups(self) -> Path:
        """The folders of the warm-ups, which are no runs of the campaign."""
        return self.root / WARMUPS

    @property
    def trackers(self) -> Path:
        """The folder in which each tracker has its own."""
        return self.root / "trackers"

    @property
    def plots(self) -> Path:
        return self.root / "plots"

    def name_run_folder(self, path: Path) -> str:
        """The folder of a run in which a file of the campaign lies: 'checkpoints', 'logs'; '' for any other file."""
        # By its place: a variant may be named `checkpoints`, too.
        parts = path.relative_to(self.root).parts
        depth = {self.suites.name: 4, WARMUPS: 2}.get(parts[0], len(parts))
        return parts[depth] if depth < len(parts) - 1 else ""

    def table(self, name: str) -> Path:
        """A derived file: table("runs.csv") is <prefix>_runs.csv."""
        return self.root / f"{self.prefix}_{name}"

    def run(self, suite_id: str, variant: str, seed: int) -> RunPaths:
        return RunPaths(self.suites / suite_id / variant / f"seed{seed}")


def shorten_path(path: Path) -> Path:
    """The path relative to the current folder if it lies below it, else the path itself."""
    here = find_current_folder()
    return path.relative_to(here) if here is not None and path.is_relative_to(here) else path


def find_current_folder() -> Path | None:
    """The current folder; None: it was removed, or may not be read."""
    try:
        return Path.cwd()
    except OSError:
        return None


def _suggest(prefix: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", prefix).strip("-._")[:100] or "exp1"


def all_prefixes(results: Path) -> list[str]:
    """Every prefix in the results folder. A prefix is a folder that contains a frozen matrix of the same name."""
    if not results.is_dir():
        return []
    return sorted(p.name for p in results.iterdir() if (p / f"{p.name}_matrix.toml").is_file())


def next_prefix(paths: CampaignPaths) -> CampaignPaths:
    """The paths of a prefix that is not in use: exp4 -> exp4-2."""
    stem = re.sub(r"-\d+$", "", paths.prefix)
    number = 2
    while (paths.results / f"{stem}-{number}").exists():
        number += 1
    return replace(paths, prefix=f"{stem}-{number}")
