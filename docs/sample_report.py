"""`python -m docs.sample_report`: make the report in docs/sample/ again, from the records that are packed beside it."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from docs.generate.pages import DOCS
from ecrl import __version__
from ecrl.bundle.bag import BagInfo
from ecrl.bundle.bundle import remake_report
from ecrl.bundle.contents import RESULTS

FOLDER = DOCS / "sample"
PREFIX = "sample"
ARCHIVE = FOLDER / f"{PREFIX}.tar.gz"
REPORT = f"{PREFIX}_report.md"
_PLOTS = "plots"
_EPOCH_S = 1795824000  # what the report says of its time: 2026-11-28, when the campaign ran

_NOTE = f"""
> This is the sample that ships with ecrl. **The campaign is real and small**: `matrices/start.toml`, 24 runs under
> torchrun with 32 real SIGKILLs, on two CPU cores that other programs used at the same time. Read it for what a report
> and its verdicts look like; its seconds are those of a busy machine. The records are in
> [{ARCHIVE.name}]({ARCHIVE.name}), the report is made from them by the present code: `python -m docs.sample_report`.
> In a clone, `tar -xzf docs/sample/{ARCHIVE.name} -C results && ecrl report --prefix {PREFIX}` makes it for you, with
> the HTML page and the tables.
"""


def write_report(target: Path) -> None:
    """Write the report as Markdown, with its plots, into the folder `target`."""
    with tempfile.TemporaryDirectory(prefix="ecrl-sample-") as work:
        results, out = Path(work) / RESULTS, Path(work) / "report"
        results.mkdir()
        subprocess.run(["tar", "-xzf", str(ARCHIVE), "-C", str(results)], check=True)
        remake_report(Path(work), BagInfo(PREFIX, _EPOCH_S, __version__), out)
        title, _, rest = (out / REPORT).read_text(encoding="utf-8").partition("\n")
        (target / REPORT).write_text(f"{title}\n{_NOTE}{rest}", encoding="utf-8")
        shutil.rmtree(target / _PLOTS, ignore_errors=True)
        shutil.copytree(out / _PLOTS, target / _PLOTS)


if __name__ == "__main__":
    write_report(FOLDER)
