"""The descriptor on which a child of ecrl answers. On its stdout, libraries and start-up files may print, too.

The name of the variable is a contract with ecrl/launch/system/child.py.
"""

import json
import os
from typing import Any


def send_reply(document: dict[str, Any]) -> None:
    """Answer with one JSON document."""
    with os.fdopen(int(os.environ["ECRL_REPLY_FD"]), "w") as answer:
        json.dump(document, answer)
