"""RFC 3161 time stamps of registration files. Nothing here uses a network."""

import importlib.util
import shlex
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ecrl.config.registration import RegistrationFile
from ecrl.errors import EcrlError

if TYPE_CHECKING:
    from rfc3161_client import TimeStampTokenInfo


def add_stamp(registered: RegistrationFile, stamp: Path) -> RegistrationFile:
    """The registration with the response of a time-stamping authority.

    Raises:
        EcrlError: the file is no such response, or is one over something else.
    """
    try:
        data = stamp.read_bytes()
    except OSError as error:
        raise EcrlError("ECRL-723", f"--stamp: {stamp} cannot be read: {error.strerror}.") from None
    if is_readable():
        try:
            imprint = _decode(data).message_imprint.message
        except ValueError as error:
            raise EcrlError(
                "ECRL-723",
                f"--stamp: {stamp} is no RFC 3161 response ({error}).\nExpected a time-stamping authority's answer.",
            ) from None
        if imprint.hex() != registered.sha256:
            raise EcrlError(
                "ECRL-723",
                f"--stamp: {stamp} stamps {imprint.hex()[:12]}, expected {registered.sha256[:12]}: it is of another"
                f" registration.\nAsk for one: {describe_query(registered)}",
            )
    return replace(registered, stamp=data)


def is_readable() -> bool:
    """Whether `rfc3161-client` is installed."""
    return importlib.util.find_spec("rfc3161_client") is not None


def read_time(stamp: bytes) -> datetime | None:
    """The time that a stamp names; None if it cannot be read."""
    try:
        return _decode(stamp).gen_time if is_readable() else None
    except ValueError:
        return None


def describe_query(registered: RegistrationFile) -> str:
    """The command that makes a query for a time-stamping authority."""
    return shlex.join(
        ["openssl", "ts", "-query", "-sha256", "-cert", "-digest", registered.sha256, "-out", "query.tsq"]
    )


def _decode(stamp: bytes) -> "TimeStampTokenInfo":
    from rfc3161_client import decode_timestamp_response

    return decode_timestamp_response(stamp).tst_info
