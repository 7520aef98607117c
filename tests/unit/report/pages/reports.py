"""What the tests of reports share: campaigns' evidence, their prose, and the command."""

from collections.abc import Callable
from pathlib import Path

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.evidence import Evidence, build_evidence
from ecrl.experiments.training.report import PLUGIN
from ecrl.records.paths import CampaignPaths
from ecrl.report.formats.markdown import markdown
from ecrl.report.pages.render import render

EPOCH = "1700000000"

TEXTS = ("md", "html", "csv", "tex")


def evidence(paths: CampaignPaths) -> Evidence:
    return build_evidence(load_campaign(paths))


def report_of(found: Evidence, folder: Path) -> str:
    render(found, folder, ["md"])
    return (folder / f"{found.prefix}_report.md").read_text()


WRITES = ("report", "--prefix", "exp", "--results", "results", "--format", ",".join(TEXTS), "--out")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def prose(found: Evidence) -> str:
    return markdown([block for section in PLUGIN.list_sections() for block in section.blocks(found, {})])


Call = Callable[..., "tuple[int, str, str]"]


def list_files(out: str) -> list[str]:
    """The files that the command named on stdout. The answer stands below them, after an empty line."""
    files, gap, answer = out.partition("\n\n")
    assert gap
    assert answer
    return files.splitlines()
