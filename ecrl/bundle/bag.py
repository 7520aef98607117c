"""BagIt: the digests of a bundle's files, and their check. A bundle is a folder or a zip file with that folder."""

import logging
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ecrl import __version__
from ecrl.errors import RecordError

_PREFIX, _EPOCH, _VERSION, _GIVEN = "Ecrl-Prefix", "Source-Date-Epoch", "Ecrl-Version", "Ecrl-Registration"
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # equal contents give equal zip files
_MOST_NAMED = 5


@dataclass(frozen=True)
class BagInfo:
    """What a bundle says of itself. epoch_s: the time of writing that its report names.

    registration: the registration file outside the campaign's folder, below the data; '' if there is none.
    """

    prefix: str
    epoch_s: int
    version: str = __version__
    registration: str = ""


def write_bag(folder: Path, info: BagInfo, target: Path) -> None:
    """Turn a folder into a bag, and move it to `target`: a zip file if its name ends in .zip, else a folder."""
    import bagit

    fields = {_PREFIX: info.prefix, _EPOCH: str(info.epoch_s), _VERSION: info.version, _GIVEN: info.registration}
    bagit.make_bag(str(folder), {key: value for key, value in fields.items() if value}, checksums=["sha256"])
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix != ".zip":
        folder.rename(target)
        return
    with zipfile.ZipFile(target, "x", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(file for file in folder.rglob("*") if file.is_file()):
            entry = zipfile.ZipInfo(f"{target.stem}/{path.relative_to(folder).as_posix()}", _ZIP_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())


@contextmanager
def open_bag(path: Path) -> Iterator[tuple[Path, BagInfo]]:
    """The folder with a bundle's data, and what the bundle says of itself. Its digests are verified first.

    Raises:
        RecordError: it is no bundle, or a file was changed, added or removed.
    """
    with tempfile.TemporaryDirectory(prefix="ecrl-bundle-") as unpacked:
        folder = path if path.is_dir() else _unpack(path, Path(unpacked))
        yield folder / "data", _verify(path, folder)


def _unpack(path: Path, target: Path) -> Path:
    try:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(target)
    except (OSError, zipfile.BadZipFile) as error:
        raise RecordError("ECRL-725", _describe_other(path, str(error))) from None
    return next((found.parent for found in sorted(target.glob("*/bagit.txt"))), target)


def _verify(path: Path, folder: Path) -> BagInfo:
    import bagit

    logging.getLogger(bagit.__name__).setLevel(logging.CRITICAL)  # it would write each difference to stderr, too
    try:
        bag = bagit.Bag(str(folder))
        bag.info.pop(
            "Payload-Oxum", None
        )  # checked first, the sum of all sizes would say that a file changed, not which
        bag.validate()
        fields = dict(bag.info)
        info = BagInfo(fields[_PREFIX], int(fields[_EPOCH]), fields[_VERSION], fields.get(_GIVEN, ""))
    except bagit.BagValidationError as error:
        names = [detail.path for detail in getattr(error, "details", ())]
        raise RecordError("ECRL-726", _describe_changed(path, names, str(error))) from None
    except (bagit.BagError, OSError, KeyError, ValueError) as error:
        raise RecordError("ECRL-725", _describe_other(path, str(error))) from None
    return info


def _describe_other(path: Path, error: str) -> str:
    return (
        f"{path}: found no bundle that can be read ({error}), expected what `ecrl bundle` wrote.\n"
        "Make one: ecrl bundle PREFIX"
    )


def _describe_changed(path: Path, names: list[str], error: str) -> str:
    shown = ", ".join(sorted(names)[:_MOST_NAMED]) or error
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return (
        f"{path}: {shown}{more}: changed, added or removed since the bundle was made; its digests do not fit."
        " No report was made.\nGet the bundle again from where it was published."
    )
