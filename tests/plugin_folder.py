"""One more member of a family for the length of a test, from a file that the test writes."""

import importlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ecrl import plugins
from ecrl.config.failure_entry import get_entry_table

_CACHES = (plugins.names, plugins.extra, plugins.declared, get_entry_table)


@contextmanager
def added_member(folder: Path, family: str, name: str, text: str | Mapping[str, str]) -> Iterator[Path]:
    """The family as it would be with `text` as the file of `name`; `folder`: where its files are copied to.

    text: of a member that is a folder, the text of each file by its name.
    """
    package = importlib.import_module(f"ecrl.{plugins.FAMILIES[family]}")
    copy, folder_of = folder / f"with-{name}", plugins._folder
    shutil.copytree(folder_of(family), copy)
    path = copy / name.replace("-", "_")
    if isinstance(text, str):
        path = path.with_suffix(".py")
        path.write_text(text)
    else:
        path.mkdir()
        for file, content in text.items():
            (path / file).write_text(content)
    searched = list(package.__path__)
    package.__path__.append(str(copy))

    def get_folder(asked: str) -> Path:
        return copy if asked == family else folder_of(asked)

    setattr(plugins, "_folder", get_folder)  # noqa: B010 (a type checker takes a function for final)
    _clear()
    try:
        yield path
    finally:
        setattr(plugins, "_folder", folder_of)  # noqa: B010
        package.__path__[:] = searched
        for module in [m for m in sys.modules if f"{m}.".startswith(f"{package.__name__}.{path.stem}.")]:
            del sys.modules[module]
        if hasattr(package, path.stem):
            delattr(package, path.stem)
        _clear()


def _clear() -> None:
    for cache in _CACHES:
        cache.cache_clear()
