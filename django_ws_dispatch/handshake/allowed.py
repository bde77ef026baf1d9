"""Origins in a list of a site's own: what may stand there, and what no browser sends."""

from __future__ import annotations

import re
from contextlib import suppress

from django.core.exceptions import ImproperlyConfigured

from ..conf import ORIGINS, conf, strings

__all__ = ["DEFAULT_PORTS", "check_origins", "load_allowed_origins", "unsent"]

DEFAULT_PORTS = {"http": 80, "https": 443}

# The scheme of the page that opens a socket, by what people write for it.
_PAGES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_HOST = re.compile(r"[a-z0-9._-]+|\[[a-f0-9:.]+\]")
# What can fit an origin: a * at the beginning of a host, and a domain behind it.
_WILDCARD = re.compile(
    r"[a-z][a-z0-9+.-]*://\*+\.?[a-z0-9_-][a-z0-9._-]*(:[0-9]{1,5})?", re.IGNORECASE | re.ASCII
)
_WHOLE = (
    'Write scheme, host and, where it is not the default, the port: "https://example.com", '
    '"https://*.example.com", "http://localhost:3000".'
)


def load_allowed_origins() -> list[str] | None:
    """Return ``WEBSOCKET_ALLOWED_ORIGINS``: whole origins, or ``None`` for the page's own."""
    origins = conf.allowed_origins
    return None if origins is None else check_origins("WEBSOCKET_ALLOWED_ORIGINS", origins)


def check_origins(name: str, value: object) -> list[str]:
    """Return the value of a setting or decorator as a list of origins.

    Whatever a client may send can be listed, and is let in as it is written. What no browser sends
    is for ``unsent()`` to say.

    Raises:
        ImproperlyConfigured: it is no list of them.
    """
    origins = strings(name, value, ORIGINS)
    for origin in origins:
        if (problem := _problem(origin)) is not None:
            raise ImproperlyConfigured(f"{name}: {origin!r} {problem}")
    return origins


def _problem(origin: str) -> str | None:
    if origin == "*":
        return None
    if origin == "null":
        return (
            "is what a page in a sandbox sends, of any site: to let it in is to let in every page. "
            'Where that is meant write ["*"].'
        )
    scheme, separator, rest = origin.partition("://")
    if not separator:
        return f"is not an origin. {_WHOLE}"
    if any(letter == "," or letter.isspace() or not letter.isprintable() for letter in origin):
        return (
            "is not an origin: it has a blank, a comma or a character that can not be seen. Write "
            "one origin in each string."
        )
    if "*" in origin and not _WILDCARD.fullmatch(origin):
        remedy = None if origin.isascii() else unsent(origin)
        return "fits no origin. " + (
            remedy
            or "A * stands for the subdomains of a host, at its beginning, as in "
            '"https://*.example.com".'
        )
    if scheme.lower() in _PAGES and not _split(rest)[1].strip("[]"):
        return f"is not an origin. {_WHOLE}"
    return None


def unsent(origin: str) -> str | None:
    """Return what to write for a page where no browser sends ``origin``, else ``None``.

    Browsers write an origin as RFC 6454 section 6.2 and the URL standard of WHATWG have it. What
    native clients send with schemes of their own is their own affair.
    """
    scheme, _, rest = origin.partition("://")
    if not scheme:
        return _WHOLE
    page = _PAGES.get(scheme.lower())
    if page is None:
        return None
    stars, host, port = _split(rest)
    if stars == ".":
        return f'Write "{page}://*.{host}" for the subdomains of {host}.'
    host = host.lower()
    if not host.isascii():
        # IDNA 2003, which has another name for these (UTS 46 calls them deviations).
        if not set(host) & set("ßς\u200c\u200d"):
            with suppress(UnicodeError):
                host = host.encode("idna").decode()
        if not host.isascii() or not _HOST.fullmatch(host):
            return 'Write its host in punycode, as in "https://xn--bcher-kva.example".'
    if not _HOST.fullmatch(host):
        return _WHOLE
    if port and not (re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 65536):
        return (
            f'Write a port from 1 to 65535, as in "{page}://{stars}{host}:8000", or none: '
            f'"{page}://{stars}{host}".'
        )
    if port and int(port) != DEFAULT_PORTS[page]:
        host += f":{int(port)}"
    sent = f"{page}://{stars}{host}"
    # Behind a * capital letters make no difference.
    if sent == (origin.lower() if stars else origin):
        return None
    return f'Write "{sent}".'


def _split(rest: str) -> tuple[str, str, str]:
    """Return what stands before a host, the host and its port, of what follows a scheme."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    body = authority.lstrip("*")
    stars = authority[: len(authority) - len(body)]
    if body.startswith("."):
        stars, body = stars + ".", body[1:]
    if body.startswith("[") and "]" not in body:
        return stars, body, ""
    address, bracket, body = body.rpartition("]")  # colons in it lead to no port
    host, _, port = body.partition(":")
    return stars, address + bracket + host, port
