"""What becomes of the keys of sessions while sockets are open that were opened under them.

Django gives a session another key at a login, when its user has changed the password, and where a
key of ``SECRET_KEY_FALLBACKS`` has verified it. The page goes on with a new cookie, and so does the
socket: what was known by the old key is known by the new one. Any thread.
"""

from __future__ import annotations

import hmac
import threading
from collections import OrderedDict
from time import monotonic
from typing import Generic, TypeVar, cast

from django.conf import settings
from django.utils.crypto import salted_hmac

__all__ = ["changes", "logged_out", "seal", "tokens_of", "unseal"]

_V = TypeVar("_V")

# Seconds for which a session that is logged out may still be found in its store.
LOGOUT_SECONDS = 60.0
# Seconds for which somebody may ask what has become of a key, and how many are remembered.
CHANGE_SECONDS = 24 * 3600.0
MOST_CHANGES = 10_000
TAG_BYTES = 16


def _secrets() -> list[str | bytes]:
    # While the secret is being changed some processes have the old one, and some know both.
    return [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]


def tokens_of(session_key: str) -> list[str]:
    """Return what stands for a session in a control message: keyed hashes, never the key.

    One for each secret, the current one's first.
    """
    return [
        salted_hmac(
            "django_ws_dispatch.session", session_key, secret=secret, algorithm="sha256"
        ).hexdigest()
        for secret in _secrets()
    ]


def seal(key: str, under: str) -> list[str]:
    """Return a session's new key such that only who has its old one, and a secret, can read it.

    It is there once for each of ``tokens_of(under)``. Nor can anybody else make one, or change one
    on its way. The construction is that of SIV (RFC 5297), with HMAC: what authenticates the key
    also makes its stream another one.
    """
    data, sealed = key.encode(), []
    for secret in _secrets():
        tag = _tag(data, under, secret)
        sealed.append((tag + _mixed(data, under, tag, secret)).hex())
    return sealed


def unseal(sealed: str, under: str, token: str) -> str | None:
    """Return what was sealed under a key that has this token; ``None`` if it was not."""
    for secret, own in zip(_secrets(), tokens_of(under), strict=True):
        if own == token:
            try:
                found = bytes.fromhex(sealed)
                tag, data = found[:TAG_BYTES], found[TAG_BYTES:]
                key = _mixed(data, under, tag, secret)
                return key.decode() if hmac.compare_digest(tag, _tag(key, under, secret)) else None
            except ValueError:
                return None
    return None


def _tag(data: bytes, under: str, secret: str | bytes) -> bytes:
    return _hmac("tag", under.encode() + b"\0" + data, secret)[:TAG_BYTES]


def _mixed(data: bytes, under: str, tag: bytes, secret: str | bytes) -> bytes:
    blocks = range(-(-len(data) // 32))
    stream = b"".join(_hmac(str(block), tag + under.encode(), secret) for block in blocks)
    return bytes(one ^ other for one, other in zip(data, stream, strict=False))


def _hmac(what: str, value: bytes, secret: str | bytes) -> bytes:
    salt = f"django_ws_dispatch.session.{what}"
    found: bytes = salted_hmac(salt, cast("str", value), secret=secret, algorithm="sha256").digest()
    return found


class Recent(Generic[_V]):
    """What was noted some seconds ago, and no longer."""

    def __init__(self, seconds: float, most: int | None = None) -> None:
        self._seconds = seconds
        self._most = most
        self._noted: OrderedDict[str, tuple[float, _V]] = OrderedDict()  # the oldest comes first
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._noted)

    def note(self, token: str, value: _V) -> None:
        now = monotonic()
        with self._lock:
            self._noted.pop(token, None)
            self._noted[token] = now + self._seconds, value
            while next(iter(self._noted.values()))[0] < now:
                self._noted.popitem(last=False)
            if self._most is not None and len(self._noted) > self._most:
                self._noted.popitem(last=False)

    def get(self, token: str) -> _V | None:
        """Return what was noted, ``None`` if nothing was, or too long ago."""
        until, value = self._noted.get(token, (0.0, None))
        return value if until > monotonic() else None


class LoggedOut(Recent[frozenset[str]]):
    """The sessions, as tokens, that were logged out a short while ago, and in which namespaces.

    Django tells of a logout before the session is gone from the store, perhaps with a transaction
    of the whole request still to be committed. Until then nobody shall be in by it.
    """

    def __init__(self) -> None:
        super().__init__(LOGOUT_SECONDS)

    def add(self, token: str, namespace: str) -> None:
        """Nobody is in by this session in that namespace; ``""`` for all of them."""
        self.note(token, (self.get(token) or frozenset()) | {namespace})

    def has(self, token: str, namespace: str | None) -> bool:
        """Whether nobody is in by it there; ``None`` where the namespace is not known."""
        found = self.get(token) or frozenset()
        return bool(found if namespace is None else found & {"", namespace})


logged_out = LoggedOut()
changes: Recent[str] = Recent(CHANGE_SECONDS, MOST_CHANGES)
"""token of an old key -> the new key, sealed"""
