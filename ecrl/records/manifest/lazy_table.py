"""The rows of a manifest. Each is kept as its text line until it is read: 100,000 rows take tens of megabytes."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ecrl.records.manifest.table import (
    COLUMNS,
    STATUSES,
    Row,
    complete_lines,
    format_row,
    is_plain,
    make_cell_error,
    parse_plain_row,
    parse_row,
    status_of,
    whole_lines,
)

_HEADER = ",".join(COLUMNS)
_INTERNED_STATUS = {status: status for status in STATUSES}  # one string object per status, not per row


class Rows(Mapping[str, Row]):
    """The rows by suite id, in manifest order. Equal to a dictionary of the same rows.

    changed: whether the rows, or their header, differ from what the manifest's file contains.
    """

    def __init__(self, kept: dict[str, str | Row], path: Path, *, changed: bool = True) -> None:
        self.changed = changed
        self._kept = kept
        self._path = path
        self._places: dict[str, int] = {}
        self._statuses: dict[str, str] = {}  # empty until the first call of `statuses`

    @classmethod
    def from_rows(cls, rows: Iterable[Row], path: Path) -> "Rows":
        """Create the rows of a new manifest."""
        return cls({row.suite_id: row if row.owner or row.token else format_row(row) for row in rows}, path)

    @classmethod
    def from_text(cls, text: str, path: Path, warnings: list[str], *, trusted: bool) -> "Rows":
        """The rows of a CSV. A last line that was cut off is dropped and named in `warnings`.

        trusted: ecrl wrote exactly this text and checked it then, so the rows are not checked again.

        Raises:
            RecordError: the text is not a manifest. The message names file, row and column.
        """
        if "\n" not in text and _HEADER.startswith(text):
            warnings.append(f"{path.name}: its first line is incomplete; all rows are lost")
            return cls({}, path)
        header = text.partition("\n")[0].rstrip("\r")
        written = text.split("\n")[1:-1] if trusted and '"' not in text else whole_lines(text)
        lines = complete_lines(header, written, path)
        changed = header != _HEADER  # written by an older ecrl or an editor
        if not text.endswith("\n") and lines and not is_plain(lines[-1]):
            warnings.append(f"{path.name}: row {len(lines)} is incomplete and was dropped")
            lines.pop()
        if trusted:
            return cls({one.partition(",")[0]: one for one in lines}, path, changed=changed)
        kept: dict[str, str | Row] = {}
        for number, one in enumerate(lines, start=1):
            row = one if is_plain(one) else parse_row(one, number, path)
            suite_id = row.partition(",")[0] if isinstance(row, str) else row.suite_id
            if suite_id in kept:
                raise make_cell_error(path, number, "suite_id", suite_id, "each suite once")
            kept[suite_id] = row
        return cls(kept, path, changed=changed)

    def __getitem__(self, suite_id: str) -> Row:
        kept = self._kept[suite_id]
        return kept if isinstance(kept, Row) else parse_plain_row(kept)

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, suite_id: object) -> bool:
        return suite_id in self._kept

    def put(self, row: Row) -> None:
        """Replace the row of the same suite id."""
        assert row.suite_id in self._kept, "no such row"
        self._kept[row.suite_id] = row
        self.changed = True
        if self._statuses:
            self._statuses[row.suite_id] = row.status

    def __or__(self, other: Mapping[str, Row]) -> "Rows":
        return Rows(self._kept | dict(other), self._path)

    def index_of(self, suite_id: str) -> int:
        """The position of a row, counted from 0."""
        if not self._places:
            self._places.update({name: place for place, name in enumerate(self._kept)})
        return self._places[suite_id]

    def statuses(self) -> Mapping[str, str]:
        """The status of every row, by suite id. Parses no row."""
        if not self._statuses:
            self._statuses = {
                suite_id: _INTERNED_STATUS[status_of(kept)] if isinstance(kept, str) else kept.status
                for suite_id, kept in self._kept.items()
            }
        return self._statuses

    def lines(self) -> Iterator[str]:
        """The CSV line of every row."""
        for kept in self._kept.values():
            yield format_row(kept) if isinstance(kept, Row) else kept

    def counts(self) -> dict[str, int]:
        """The number of rows with each status. Every status is a key."""
        found = Counter(self.statuses().values())
        return {status: found[status] for status in STATUSES}
