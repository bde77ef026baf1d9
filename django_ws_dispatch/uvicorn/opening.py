"""The opening handshake (RFC 6455 section 4): the usual one read fast, and what is answered.

Whatever is unusual goes to websockets' ``ServerProtocol``, which also makes every refusal.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Iterable
from email.utils import formatdate
from hashlib import sha1
from http import HTTPStatus
from typing import NamedTuple

from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from .deflate import FACTORY, deflates

__all__ = ["Handshake", "Memory", "accepted", "denied", "refused"]

logger = logging.getLogger("uvicorn.error")

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# What is longer is unusual: websockets has limits of its own.
LARGEST = 8192
MOST_HEADERS = 128
# How many header lines, and answers to offers of extensions, are remembered at most.
MOST_LINES, MOST_OFFERS = 2048, 256
LONGEST_LINE = 512
# What is different in each request, or a secret.
NEVER_SHARED = frozenset(
    (
        b"authorization",
        b"cookie",
        b"proxy-authorization",
        b"sec-websocket-key",
        b"sec-websocket-protocol",  # where pages send tokens
    )
)
# What a good handshake has no more than once.
ONCE = frozenset(
    (
        b"connection",
        b"content-length",
        b"origin",
        b"sec-websocket-extensions",
        b"sec-websocket-key",
        b"sec-websocket-version",
        b"upgrade",
    )
)

_line = re.compile(rb"([-!#$%&'*+.^_`|~0-9a-zA-Z]+):([\t\x20-\x7e\x80-\xff]*)")
_target = re.compile(rb"[\x21-\x7e]+")
_token = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+")
# What must not stand in a header: it would end it.
_ends_header = re.compile(rb"[\r\n\x00]")

Header = tuple[bytes, bytes]


class Handshake(NamedTuple):
    """What a client asks for, if it is a good handshake."""

    path: str  # with the query string, as it was sent
    headers: list[Header]  # names in lower case
    subprotocols: list[str]
    accept: bytes  # Sec-WebSocket-Accept
    extensions: bytes | None  # Sec-WebSocket-Extensions of the answer
    reads: bool  # messages of the client may be compressed
    writes: bool  # those to it may


class Memory:
    """What the handshakes of one server have in common, so that each is kept once.

    Args:
        deflate: whether permessage-deflate is offered.
        max_size: of messages, in bytes.
    """

    def __init__(self, deflate: bool, max_size: int) -> None:
        self._factories = [FACTORY] if deflate else []
        self._max_size = max_size
        self._lines: dict[bytes, Header] = {}
        self._offers: dict[bytes, tuple[bytes | None, bool, bool]] = {}

    def core(self) -> ServerProtocol:
        """Return what reads a handshake that is not the usual one."""
        return ServerProtocol(extensions=self._factories, max_size=self._max_size, logger=logger)

    def read(self, data: bytes) -> Handshake | None:
        """Return a handshake; ``None`` where it is not a usual one, or not whole."""
        if len(data) > LARGEST or not data.endswith(b"\r\n\r\n"):
            return None
        lines = data[:-4].split(b"\r\n")
        method, _, rest = lines[0].partition(b" ")
        path, _, version = rest.rpartition(b" ")
        if method != b"GET" or version != b"HTTP/1.1" or not _target.fullmatch(path):
            return None
        if len(lines) > MOST_HEADERS:
            return None
        headers: list[Header] = []
        seen: dict[bytes, bytes] = {}
        known = self._lines
        for line in lines[1:]:
            header = known.get(line) or self._header(line)
            if header is None:
                return None
            headers.append(header)
            name, value = header
            if name not in seen:
                seen[name] = value
            elif name == b"sec-websocket-protocol":
                seen[name] += b"," + value
            elif name in ONCE:
                return None
        try:
            key = seen[b"sec-websocket-key"]
            if (
                seen[b"upgrade"].lower() != b"websocket"
                or seen[b"sec-websocket-version"] != b"13"
                or len(base64.b64decode(key, validate=True)) != 16
                or not _has_upgrade(seen[b"connection"])
                or seen.get(b"content-length", b"0") != b"0"  # there is no body
                or b"transfer-encoding" in seen
            ):
                return None
        except (KeyError, binascii.Error):
            return None
        accept = binascii.b2a_base64(sha1(key + GUID).digest(), newline=False)
        extensions: bytes | None = None
        reads = writes = False
        if (offer := seen.get(b"sec-websocket-extensions")) is not None:
            answer = self._offers.get(offer) or self._negotiate(offer)
            if answer is None:
                return None
            extensions, reads, writes = answer
        subprotocols: list[str] = []
        if (offered := seen.get(b"sec-websocket-protocol")) is not None:
            offers = [one.strip(b" \t") for one in offered.split(b",")]
            if not all(map(_token.fullmatch, offers)):
                return None
            subprotocols = [one.decode("ascii") for one in offers]
        return Handshake(
            path.decode("ascii"), headers, subprotocols, accept, extensions, reads, writes
        )

    def _header(self, line: bytes) -> Header | None:
        match = _line.fullmatch(line)
        if match is None:
            return None
        header = match[1].lower(), match[2].strip(b" \t")
        if header[0] not in NEVER_SHARED and len(line) <= LONGEST_LINE:
            if len(self._lines) >= MOST_LINES:
                self._lines.clear()
            self._lines[line] = header
        return header

    def _negotiate(self, offer: bytes) -> tuple[bytes | None, bool, bool] | None:
        try:
            text = offer.decode("ascii")
            answer, extensions = self.core().process_extensions(
                Headers([("Sec-WebSocket-Extensions", text)])
            )
        except Exception:  # websockets says to the client what is wrong with it
            return None
        result = None if answer is None else answer.encode(), *deflates(extensions)
        if len(offer) <= LONGEST_LINE:
            if len(self._offers) >= MOST_OFFERS:
                self._offers.clear()
            self._offers[offer] = result
        return result


def _has_upgrade(connection: bytes) -> bool:
    options = [one.strip() for one in connection.split(b",")]
    if not all(map(_token.fullmatch, options)):
        return False
    return any(one.lower() == b"upgrade" for one in options)


def handshake_of(core: ServerProtocol, request: Request) -> Handshake | Response:
    """Return what a request asks for that websockets has read, or why not."""
    response = core.accept(request)
    if response.status_code != 101:
        return response
    subprotocols: list[str] = []
    for value in request.headers.get_all("Sec-WebSocket-Protocol"):
        subprotocols += [one.strip() for one in value.split(",")]
    extensions = response.headers.get("Sec-WebSocket-Extensions")
    return Handshake(
        request.path,
        [
            (name.encode("ascii").lower(), _encoded(value))
            for name, value in request.headers.raw_items()
        ],
        subprotocols,
        response.headers["Sec-WebSocket-Accept"].encode(),
        None if extensions is None else extensions.encode(),
        *deflates(core.extensions),
    )


def _encoded(value: str) -> bytes:
    """Return what websockets has read: it decodes ISO-8859-1, before 17.0 with surrogates."""
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode("ascii", errors="surrogateescape")


def accepted(
    handshake: Handshake, headers: Iterable[Header], subprotocol: str | None = None
) -> bytes:
    """Return the answer that accepts.

    Raises:
        ValueError: a header can not be sent.
    """
    lines = [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n" % handshake.accept
    ]
    if handshake.extensions is not None:
        lines.append(b"Sec-WebSocket-Extensions: %b\r\n" % handshake.extensions)
    lines += _header_lines(headers)
    if subprotocol:
        lines += _header_lines([(b"Sec-WebSocket-Protocol", subprotocol.encode("latin-1"))])
    lines.append(b"\r\n")
    return b"".join(lines)


def denied(status: int, headers: Iterable[Header], size: int | None) -> bytes:
    """Return the head of an answer that denies.

    Args:
        status: HTTP's.
        headers: those of the application.
        size: of the body, in bytes; ``None`` where only its end tells.

    Raises:
        ValueError: a header can not be sent.
    """
    headers = list(headers)
    has = {name.lower() for name, _ in headers}
    for name, value in (
        (b"date", formatdate(usegmt=True).encode()),
        (b"connection", b"close"),
        (b"content-length", None if size is None else b"%d" % size),
        (b"content-type", b"text/plain; charset=utf-8"),
    ):
        if name not in has and value is not None:
            headers.append((name, value))
    lines = _header_lines(headers)
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, _phrase(status), b"".join(lines))


def refused(status: HTTPStatus) -> bytes:
    """Return an answer of the server's own."""
    body = status.phrase.encode()
    return denied(status, (), len(body)) + body


def _header_lines(headers: Iterable[Header]) -> list[bytes]:
    lines = []
    for name, value in headers:
        if _ends_header.search(name) or _ends_header.search(value):
            raise ValueError(f"No header may hold a line break or NUL: {name!r}: {value!r}.")
        lines.append(b"%b: %b\r\n" % (name, value))
    return lines


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
