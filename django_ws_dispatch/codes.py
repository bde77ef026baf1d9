"""Close codes, and what may go on a wire (RFC 6455 sections 5.5.1 and 7.4)."""

from enum import IntEnum

__all__ = ["DENIALS", "CloseCode", "check_close_code", "cut_reason", "invites_back"]


class CloseCode(IntEnum):
    """The codes that this package closes with.

    A client comes back after 1011, 1012, 1013, 4408 and 4429, and after the others only if it has
    done something about it.
    """

    DONE = 1000
    WRONG_KIND = 1003
    NOT_JSON = 1007
    TOO_BIG = 1009
    FAILED = 1011
    RESTART = 1012
    SLOW_CLIENT = 1013
    BAD_REQUEST = 4400
    LOGGED_OUT = 4401
    FORBIDDEN = 4403
    GONE = 4404
    IDLE = 4408
    TOO_FAST = 4429


# What a close from elsewhere is as the answer to a handshake, where it is no 403.
DENIALS: dict[int, int] = {CloseCode.LOGGED_OUT: 401, CloseCode.SLOW_CLIENT: 503}

# A close frame's payload is at most 125 bytes, two of which are the code.
MAX_REASON_BYTES = 123


def check_close_code(code: int) -> int:
    """Return ``code`` if an endpoint may send it in a close frame.

    Raises:
        ValueError: RFC 6455 section 7.4 reserves it, or it is out of range.
    """
    if isinstance(code, int) and (
        1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999
    ):
        return int(code)
    raise ValueError(
        f"{code!r} is not a close code that may be sent: "
        "use 1000-1003, 1007-1014 or 3000-4999 (RFC 6455 section 7.4)."
    )


def invites_back(code: int) -> bool:
    """Return whether a client that was closed with ``code`` opens a new socket as it is."""
    return (
        code in (1001, 1005, 1006, CloseCode.IDLE, CloseCode.TOO_FAST)
        or CloseCode.FAILED <= code <= 1015
        or 4500 <= code <= 4599
    )


def cut_reason(reason: str) -> str:
    """Return ``reason`` cut to the 123 bytes of UTF-8 that fit in a close frame, at a character."""
    if reason.isascii():
        return reason[:MAX_REASON_BYTES]
    return reason.encode(errors="replace")[:MAX_REASON_BYTES].decode(errors="ignore")
