"""The registration file `m.registration.json`: what an experiment claims and plans, written before its first run.

docs/metrics.md, "The registration file", says what is compared with it.
"""

import base64
import hashlib
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecrl.config.git_commit import find_commit
from ecrl.config.hashing import canonical_json, content_hash
from ecrl.config.load import load
from ecrl.config.matrix import Claim, Matrix
from ecrl.config.suite import expand_matrix
from ecrl.errors import RecordError
from ecrl.records.paths import CampaignPaths
from ecrl.storage.atomic import write_atomic
from ecrl.version import VERSION

SCHEMA = 1
_KEYS = frozenset({
    "schema", "matrix", "device", "claims", "blocks", "order_rule", "stopping_rule", "analysis", "commit",
})  # fmt: skip
_PACKAGE = Path(__file__).parent.parent
_AUTO = "auto"
_ORDER_RULE = (
    "The order of the variants in each block comes from a shuffled deck of all permutations, drawn from the hash of the"
    " frozen matrix."
)
_STOPPING_RULE = (
    "Fixed n: the claims are judged when every block below is done. Each extension, and each run made again, is a look;"
    " after several looks the sequential test decides."
)


@dataclass(frozen=True)
class RegistrationFile:
    """A registration. content: what the SHA-256 is computed over. stamp: an RFC 3161 response over that SHA-256."""

    content: dict[str, Any]
    stamp: bytes | None = None

    @property
    def canonical(self) -> bytes:
        """The bytes that the SHA-256 and a stamp are computed over."""
        return canonical_json(self.content).encode()

    @property
    def sha256(self) -> str:
        """SHA-256 of the canonical bytes."""
        return hashlib.sha256(self.canonical).hexdigest()

    @property
    def plan(self) -> dict[str, Any]:
        """The content without the commit, which says when it was registered and not what."""
        return {key: value for key, value in self.content.items() if key != "commit"}

    def fits(self, matrix: Matrix) -> bool:
        """Whether this registers the matrix. A registered device `auto` may have become any."""
        return bool(_hash_matrix(matrix, self.content["device"]) == self.content["matrix"])

    def covers(self, matrix: Matrix) -> bool:
        """Whether this registers a suite of the matrix."""
        suites = {block["suite"] for block in self.content["blocks"]}
        return any(suite.suite_id in suites for suite in expand_matrix(matrix))

    def write(self, path: Path) -> None:
        """Write the file."""
        stamp = None if self.stamp is None else base64.b64encode(self.stamp).decode()
        document = {"registration": self.content, "sha256": self.sha256, "stamp": stamp}
        write_atomic(path, (json.dumps(document, indent=1) + "\n").encode())


def build_registration(source: Path) -> RegistrationFile:
    """The registration of a matrix file, as it is now."""
    matrix = load(source)
    commit = find_commit(source)
    return RegistrationFile(
        {
            "schema": SCHEMA,
            "matrix": _hash_matrix(matrix, matrix.run.device),
            "device": matrix.run.device,
            "claims": [describe_claim(claim) for claim in matrix.claims],
            "blocks": [
                {"suite": suite.suite_id, "seed": seed, "variants": list(suite.variants)}
                for suite in expand_matrix(matrix)
                for seed in suite.seeds
            ],
            "order_rule": _ORDER_RULE,
            "stopping_rule": _STOPPING_RULE,
            "analysis": compute_analysis_version(),
            "commit": None if commit is None else vars(commit),
        }
    )


def describe_claim(claim: Claim) -> dict[str, Any]:
    """Everything that a claim says, as JSON values."""
    return claim.model_dump(mode="json", exclude_none=True)


def compute_analysis_version() -> str:
    """The version of ecrl, with a digest of the code that computes metrics and verdicts: '0.2.0 (1a2b3c4d5e6f)'."""
    digest = hashlib.sha256()
    files = [*(_PACKAGE / "analysis").rglob("*.py"), *(_PACKAGE / "experiments").glob("*/metrics.py")]
    for path in sorted(files):
        digest.update(path.relative_to(_PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return f"{VERSION} ({digest.hexdigest()[:12]})"


def read_registration(path: Path) -> RegistrationFile:
    """Read a registration file.

    Raises:
        RecordError: it cannot be read, is no registration, or was changed after it was written.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        content, said, stamp = document["registration"], document["sha256"], document["stamp"]
        found = RegistrationFile(content, None if stamp is None else base64.b64decode(stamp, validate=True))
        schema, lacking = content["schema"], sorted(_KEYS - content.keys())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(
            "ECRL-720", f"{path}: not a readable registration file ({error}).\nMake one: ecrl register MATRIX.toml"
        ) from None
    if schema != SCHEMA or lacking:
        raise RecordError(
            "ECRL-720",
            f"{path}: schema is {schema!r}{f' and it lacks {lacking}' if lacking else ''}, expected {SCHEMA}"
            " with every key.\nRead it with the ecrl that wrote it.",
        )
    if found.sha256 != said:
        raise RecordError(
            "ECRL-721",
            f"{path}: its content has SHA-256 {found.sha256[:12]}, expected {str(said)[:12]} as the file says:"
            " it was changed after it was written.\nRestore the file as it was registered, e.g. from its git commit.",
        )
    return found


def get_registration_path(source: Path) -> Path:
    """The registration file beside a matrix file: mine.toml -> mine.registration.json."""
    return source.with_name(f"{source.stem}.registration.json")


def get_kept_path(paths: CampaignPaths) -> Path:
    """The copy of the registration in the campaign's folder."""
    return paths.table("registration.json")


def find_registration(source: Path | None) -> RegistrationFile | None:
    """The registration beside a matrix file, if there is one."""
    path = None if source is None else get_registration_path(source)
    return read_registration(path) if path is not None and path.is_file() else None


def write_registration(source: Path, path: Path) -> RegistrationFile:
    """Register a matrix file. An existing file that registers the same is kept, with its commit and its stamp.

    Raises:
        RecordError: the existing file registers something else.
    """
    found = build_registration(source)
    if path.exists():
        there = read_registration(path)
        if there.plan == found.plan:
            return there
        changed = ", ".join(key for key in found.plan if there.content.get(key) != found.content[key])
        raise RecordError(
            "ECRL-722",
            f"{path}: already registers another version of {source} (it differs in: {changed}). Nothing was written.\n"
            f"Keep it, and write a second one: ecrl register {shlex.quote(str(source))} --out FILE",
        )
    found.write(path)
    return found


def _hash_matrix(matrix: Matrix, device: str) -> str:
    return content_hash(matrix.content | ({"device": device} if device == _AUTO else {}))
