"""Every "no" to a client: what an exception means to it, and the one log line for it.

What came from a client stands in a log escaped, and not all of it.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404
from django.http.multipartparser import MultiPartParserError

from .codes import CloseCode
from .exceptions import BrokerError, Deny
from .typing import Scope

__all__ = [
    "FAILURE",
    "Meaning",
    "broker_failed",
    "closed",
    "denied",
    "failed",
    "meaning_of",
    "quoted",
    "receiver_failed",
    "shown",
    "shown_path",
]

handshake_logger = logging.getLogger("django_ws_dispatch.handshake")
connection_logger = logging.getLogger("django_ws_dispatch.connection")

# Characters of one thing that a client said.
MOST = 200


class Meaning(NamedTuple):
    """What an exception says to a client: the status of the denial, or the close code."""

    status: int
    code: int


FAILURE = Meaning(500, CloseCode.FAILED)

MEANINGS: dict[type[Exception], Meaning] = {
    Http404: Meaning(404, CloseCode.GONE),
    PermissionDenied: Meaning(403, CloseCode.FORBIDDEN),
    MultiPartParserError: Meaning(400, CloseCode.BAD_REQUEST),
    BadRequest: Meaning(400, CloseCode.BAD_REQUEST),
    SuspiciousOperation: Meaning(400, CloseCode.BAD_REQUEST),
    BrokerError: Meaning(503, CloseCode.FAILED),
}


def meaning_of(exc: BaseException) -> Meaning | None:
    """Return what an exception means, ``None`` for a failure.

    It is what it would be on a page, but for a ``BrokerError``: an outage is no failure of the
    site's.
    """
    if isinstance(exc, Deny):
        return Meaning(exc.status_code, 4000 + exc.status_code)
    return next((one for kind, one in MEANINGS.items() if isinstance(exc, kind)), None)


def shown(text: str) -> str:
    """Return ``text`` on one line of ASCII, 200 characters at most, and ``...`` for the rest."""
    return "".join(_cut(text))


def quoted(text: str) -> str:
    """Return what ``shown()`` does, between quotes."""
    escaped, rest = _cut(text)
    return f"'{escaped}'{rest}"


def shown_path(scope: Scope) -> str:
    """Return the path as the server gave it."""
    path: str = scope.get("path", "")
    return shown(path)


def closed(path: str, code: int, why: str) -> None:
    """Tell that an open socket was closed by this side, and why: without a full stop."""
    extra = {"path": path, "status_code": int(code)}
    connection_logger.warning("Closed %s with %d: %s.", path, code, why, extra=extra)


def denied(path: str, status: int, why: str) -> None:
    """Tell that a handshake was denied, as ``django.request`` tells of a page.

    Also for a redirect: no browser follows it, and the page sees no more than that it failed.
    """
    extra = {"path": path, "status_code": status}
    why = why.rstrip(".")
    handshake_logger.warning("Denied %s with %d: %s.", path, status, why, extra=extra)


def failed(text: str, path: str, *args: str, exc: BaseException, **extra: Any) -> None:
    """Tell of a failure with its traceback.

    ``extra`` has the ``status_code`` of the denial or the close, and what else a handler of the log
    gets.
    """
    logger = handshake_logger if extra["status_code"] < 1000 else connection_logger
    logger.error(text, path, *args, exc_info=exc, extra={"path": path, **extra})


def broker_failed(path: str, exc: BaseException) -> None:
    """Tell of a handshake that an outage has cost.

    Nothing is wrong with the site: no traceback, and no error tracker hears of it.
    """
    handshake_logger.error(
        "The broker failed in the handshake of %s: %s",
        path,
        " ".join(str(exc).split()) or type(exc).__name__,
        extra={"path": path, "status_code": 503},
    )


def receiver_failed(receiver: object, path: str, exc: BaseException) -> None:
    """Tell of a receiver of a signal that raised: the socket has nothing of it."""
    connection_logger.error("%r failed for %s", receiver, path, exc_info=exc)


def _cut(text: str) -> tuple[str, str]:
    escaped = ascii(text[:MOST])[1:-1]
    return escaped[:MOST], "..." * (len(text) > MOST or len(escaped) > MOST)
