"""What tests ask of an error: its code, and the facts in its message. The wording is free to change."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ecrl.errors import EcrlError


def has_error(text: str, code: str, *facts: str) -> bool:
    """Whether one error in `text` has this code and all of these facts, in its first line or in those below it."""
    errors = re.finditer(r"^.*\[(ECRL-\d{3})\]$(?:\n(?!.*\[ECRL-\d{3}\]$).*)*", text, re.MULTILINE)
    return any(error[1] == code and all(fact in error[0] for fact in facts) for error in errors)


@contextmanager
def raises(code: str, *facts: str) -> Iterator[pytest.ExceptionInfo[EcrlError]]:
    """Expect an error of the user's with this code and these facts."""
    with pytest.raises(EcrlError) as raised:
        yield raised
    message = raised.value.format_message()
    assert has_error(message, code, *facts), message
