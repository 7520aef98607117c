"""Identity by content: canonical JSON, its SHA-256, and readable slugs."""

import hashlib
import json
import re
from typing import Any


def canonical_json(content: Any) -> str:
    """One text for one content: sorted keys, no spaces, no NaN."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_hash(content: Any) -> str:
    """SHA-256 (64 hex characters) of the canonical JSON of `content`."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def slug(text: str) -> str:
    """`text` in lower case with everything but letters, digits and dots turned into single hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
