"""The suites that a command selects: `--only 'dataset=cifar10,model~resnet'`, `--limit N`, `--rerun SUITE`."""

import operator
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ecrl.errors import EcrlError, did_you_mean, unknown_name
from ecrl.records.manifest.store import STATUSES, Row

# Key of a term -> manifest column.
KEYS = {
    "suite": "suite_id", "dataset": "dataset", "model": "model", "failure": "failure_label",
    "failure_label": "failure_label", "checkpoint_every": "checkpoint_every", "max_inflight": "max_inflight",
    "nproc": "nproc", "steps": "steps", "status": "status",
}  # fmt: skip
_TERM = re.compile(r"\s*(?P<key>\w+)\s*(?P<sign>!=|!~|>=|<=|=|~|>|<)\s*(?P<value>.*?)\s*")
_ORDERS: dict[str, Callable[[int, int], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip
_EXAMPLE = "expected e.g. 'dataset=cifar10,model~resnet,checkpoint_every<=50'"
_SHOWN = 10
_MAX_NEAR = 4


@dataclass(frozen=True)
class Term:
    """One condition of `--only`.

    Equality signs (=, !=) compare whole values (`a|b`: either). ~ and !~ search a regular expression and ignore case.
    The signs <, <=, > and >= compare numbers.
    """

    key: str
    sign: str
    value: str

    def __str__(self) -> str:
        return f"{self.key}{self.sign}{self.value}"

    @property
    def column(self) -> str:
        """The manifest column that the term tests."""
        return KEYS[self.key]

    def matches(self, row: Row) -> bool:
        """Whether the term is true of a suite."""
        value = getattr(row, self.column)
        if self.sign in _ORDERS:
            return _ORDERS[self.sign](value, int(self.value))
        if self.sign in ("~", "!~"):
            return bool(re.search(self.value, str(value), re.IGNORECASE)) == (self.sign == "~")
        return (str(value) in self.value.split("|")) == (self.sign == "=")

    def check(self, rows: Iterable[Row], options: str) -> None:
        """Raise if the term compares with a value that no suite has, most likely a typing error.

        Raises:
            EcrlError: names the value and similar ones that exist.
        """
        if self.sign not in ("=", "!="):
            return
        there = set(STATUSES) if self.column == "status" else {str(getattr(row, self.column)) for row in rows}
        for value in self.value.split("|"):
            if value not in there:
                raise EcrlError("ECRL-320", f"--only: {_unknown_message(self.key, value, there, options)}")


def _unknown_message(what: str, found: str, there: set[str], options: str) -> str:
    if len(there) <= _SHOWN:
        return unknown_name(what, found, there)
    near = did_you_mean(found, sorted(there))
    return f"unknown {what} {found!r}.{near} To list all {len(there)}, type: {_status(options)}"


def _status(options: str) -> str:
    return f"ecrl matrix status {options}".rstrip()


def parse_terms(text: str) -> tuple[Term, ...]:
    """The terms of an `--only` option.

    Raises:
        EcrlError: the text is not a list of terms, is empty, or names an unknown key.
    """
    parts = [part for part in text.split(",") if part.strip()]
    # An empty text must not mean every suite: `_term` rejects it.
    return tuple(_term(part) for part in parts or [text])


def _term(text: str) -> Term:
    match = _TERM.fullmatch(text)
    if match is None or not match["value"]:
        raise EcrlError(
            "ECRL-320", f"--only: found {text.strip()!r}, {_EXAMPLE}.\nSigns: = != ~ (matches) !~ < <= > >="
        )
    term = Term(match["key"], match["sign"], match["value"])
    if term.key in ("variant", "variants", "seed", "seeds"):
        raise EcrlError(
            "ECRL-320",
            f"--only: found {term.key!r}, expected a key of whole suites: all variants and seeds of a suite are"
            f" run.\nChoose them at the start of a campaign: ecrl matrix run --prefix NEW --{term.key.rstrip('s')}s",
        )
    if term.key not in KEYS:
        raise EcrlError("ECRL-320", f"--only: {unknown_name('key', term.key, KEYS)}")
    if term.sign in _ORDERS and not (term.value.isascii() and term.value.isdigit()):
        raise EcrlError("ECRL-320", f"--only: {term.key}{term.sign}: found {term.value!r}, expected a whole number")
    if term.sign in _ORDERS and KEYS[term.key] not in ("checkpoint_every", "max_inflight", "nproc", "steps"):
        raise EcrlError(
            "ECRL-320", f"--only: {term.key} is not a number; compare it with =, != or ~ instead of {term.sign}"
        )
    if "~" in term.sign:
        try:
            re.compile(term.value)
        except re.error as error:
            raise EcrlError(
                "ECRL-320", f"--only: {term.key}: {term.value!r} is not a regular expression: {error}"
            ) from None
    return term


@dataclass(frozen=True)
class Selection:
    """Which of the suites that would run are selected.

    terms: all must be true of a suite. limit: at most this many suites, the first ones. rerun: select only from these
    suites, even if they are already complete. options: the options that name the campaign in suggested commands.
    """

    terms: tuple[Term, ...] = ()
    limit: int | None = None
    rerun: tuple[str, ...] = ()
    options: str = ""

    def __bool__(self) -> bool:
        return bool(self.terms or self.rerun or self.limit is not None)

    @classmethod
    def from_suite_ids(cls, suite_ids: Iterable[str]) -> "Selection":
        """The selection of exactly these suites."""
        return cls((Term("suite", "=", "|".join(suite_ids)),))

    @property
    def depends_on_state(self) -> bool:
        """Whether the selection tests something that running a suite changes."""
        return bool(self.rerun) or any(term.column == "status" for term in self.terms)

    @property
    def to_flags(self) -> list[str]:
        """The command-line options that make this selection."""
        only = [f"--only {shlex.quote(self._only)}"] if self.terms else []
        limit = [] if self.limit is None else [f"--limit {self.limit}"]
        return [*only, *limit, *(f"--rerun {shlex.quote(name)}" for name in self.rerun)]

    @property
    def _only(self) -> str:
        return ",".join(map(str, self.terms))

    def select(self, suite_ids: Iterable[str], rows: Mapping[str, Row]) -> list[str]:
        """The selected suites, in order. They come from `suite_ids`, or with `rerun` from the suites that it names."""
        if self.rerun:
            wanted = self.select_reruns(rows)
            suite_ids = [suite_id for suite_id in rows if suite_id in wanted]
        chosen = (
            [one for one in suite_ids if all(term.matches(rows[one]) for term in self.terms)]
            if self.terms
            else [*suite_ids]
        )
        return chosen if self.limit is None else chosen[: self.limit]

    def select_reruns(self, rows: Mapping[str, Row]) -> set[str]:
        """The ids of the suites that `--rerun` names."""
        return {resolve_suite_name(name, rows, self.options, "--rerun") for name in self.rerun}

    def check(self, rows: Mapping[str, Row]) -> None:
        """Raise if the selection does not fit this campaign.

        Raises:
            EcrlError: the campaign lacks a value or suite that is named, no suite matches the terms, or no suite of
                `--rerun` matches them.
        """
        for term in self.terms:
            term.check(rows.values(), self.options)
        if self.terms and not any(all(term.matches(row) for term in self.terms) for row in rows.values()):
            there = _status(self.options)
            raise EcrlError(
                "ECRL-321", f"--only: none of {len(rows)} suites matches {self._only!r}.\nList the suites: {there}"
            )
        if self.rerun and not self.select((), rows):
            named = ", ".join(sorted(self.select_reruns(rows)))
            raise EcrlError(
                "ECRL-321",
                f"--rerun: none of {named} matches --only {self._only!r}; nothing was started or set aside.\n"
                f"Leave out --only, or list the suites: {_status(self.options)}",
            )


ALL = Selection()


def resolve_suite_name(name: str, suite_ids: Iterable[str], options: str, flag: str = "SUITE") -> str:
    """The id of the suite that a user means by its id or by a part that only one id contains.

    options: the options that name the campaign in suggested commands. flag: the option that is named in errors.

    Raises:
        EcrlError: no suite matches, or several do.
    """
    known = list(suite_ids)
    if name in known:
        return name
    if not name.strip():
        raise EcrlError(
            "ECRL-322",
            f"{flag}: found {name!r}, expected a suite id or a part of one.\nList the suites: {_status(options)}",
        )
    near = [suite_id for suite_id in known if name.lower() in suite_id]
    if len(near) == 1:
        return near[0]
    if near:
        more = f" and {len(near) - _MAX_NEAR} more" if len(near) > _MAX_NEAR else ""
        raise EcrlError(
            "ECRL-323",
            f"{flag}: {name!r} is part of {len(near)} suite ids, expected one: {', '.join(near[:_MAX_NEAR])}{more}.\n"
            f"Type a longer part, e.g. {'' if flag == 'SUITE' else f'{flag} '}{near[0]}",
        )
    if len(known) <= _SHOWN:
        raise EcrlError("ECRL-322", f"{flag}: {unknown_name('suite', name, known)}")
    hint = did_you_mean(name, known)
    raise EcrlError("ECRL-322", f"{flag}: unknown suite {name!r}.{hint}\nList the suites: {_status(options)}")
