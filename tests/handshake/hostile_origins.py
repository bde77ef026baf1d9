"""Origins that no page of the site sends, and that must not open a socket."""

from __future__ import annotations

from urllib.parse import urlsplit

__all__ = ["altered_origins", "hostile_origins", "repeated_origins"]

EVIL = "evil.example"


def hostile_origins(own: str) -> dict[str, bytes]:
    """Return values of one Origin header that reach the application as they are, by name.

    Args:
        own: the origin that the site does allow, such as ``http://127.0.0.1:8000``.
    """
    url = urlsplit(own)
    scheme, netloc, host = url.scheme, url.netloc, url.hostname or ""
    other_scheme = "http" if scheme == "https" else "https"
    port = f":{url.port}" if url.port else ""
    shapes = {
        "null": "null",
        "null in capitals": "NULL",
        "undefined": "undefined",
        "empty": "",
        "star": "*",
        "any host": f"{scheme}://*",
        "another site": f"{scheme}://{EVIL}",
        "another site on this port": f"{scheme}://{EVIL}{port or ':8000'}",
        "another scheme": f"{other_scheme}://{netloc}",
        "ws": f"ws://{netloc}",
        "wss": f"wss://{netloc}",
        "unknown scheme": f"xx{scheme}://{netloc}",
        "scheme in capitals": f"{scheme.upper()}://{netloc}",
        "everything in capitals": own.upper(),
        "no scheme": netloc,
        "empty scheme": f"://{netloc}",
        "relative scheme": f"//{netloc}",
        "scheme alone": f"{scheme}://",
        "one slash": f"{scheme}:/{netloc}",
        "three slashes": f"{scheme}:///{netloc}",
        "backslashes": f"{scheme}:\\\\{netloc}",
        "another port": f"{scheme}://{host}:1",
        "a port more or less": f"{scheme}://{host}" + ("" if port else ":8000"),
        "default port": f"{scheme}://{host}:{443 if scheme == 'https' else 80}",
        "empty port": f"{scheme}://{host}:",
        "port with a zero": f"{scheme}://{host}:0{url.port or 80}",
        "port of words": f"{scheme}://{host}:http",
        "port too many": f"{own}{port or ':80'}:1",
        "suffix": f"{scheme}://{host}.{EVIL}",
        "suffix with a port": f"{scheme}://{host}.{EVIL}{port}",
        "suffix without a dot": f"{scheme}://{host}{EVIL}",
        "prefix": f"{scheme}://evil{netloc}",
        "prefix with a dash": f"{scheme}://evil-{netloc}",
        "subdomain": f"{scheme}://evil.{netloc}",
        "leading dot": f"{scheme}://.{netloc}",
        "trailing dot": f"{scheme}://{host}.{port}",
        "cut host": f"{scheme}://{host[1:]}{port}",
        "user": f"{scheme}://{netloc}@{EVIL}",
        "user and password": f"{scheme}://{host}:x@{EVIL}{port}",
        "evil user": f"{scheme}://{EVIL}@{netloc}",
        "empty user": f"{scheme}://@{netloc}",
        "slash": f"{own}/",
        "path": f"{own}/ws/",
        "query": f"{own}?x=1",
        "fragment": f"{own}#x",
        "own in the path": f"{scheme}://{EVIL}/{netloc}",
        "own in the query": f"{scheme}://{EVIL}?{own}",
        "own in the fragment": f"{scheme}://{EVIL}#{own}",
        "backslash before own": f"{scheme}://{EVIL}\\@{netloc}",
        "percent-encoded dot": f"{scheme}://{host.replace('.', '%2e')}%2e{port}",
        "percent-encoded nul": f"{own}%00",
        "percent-encoded slash": f"{own}%2f",
        "joined with evil": f"{own},{scheme}://{EVIL}",
        "evil joined": f"{scheme}://{EVIL}, {own}",
        "joined with itself": f"{own},{own}",
        "list of origins": f"{own} {own}",
        "list with null": f"null {own}",
        "semicolon": f"{own};{EVIL}",
        "quotes": f'"{own}"',
        "brackets": f"<{own}>",
        "brackets of IPv6": f"{scheme}://[{host}]{port}",
        "unclosed bracket": f"{scheme}://[::1",
        "loopback in hex": f"{scheme}://0x7f000001{port}",
        "loopback in short": f"{scheme}://127.1{port}",
        "file": "file://",
        "data": "data:text/html,x",
        "javascript": "javascript:alert(1)",
        "about": "about:blank",
        "blob": f"blob:{own}",
        "extension": "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        "format string": "%s%d%(x)s{0}{x}",
        "long": f"{scheme}://{host}." + "a" * 4000,
    }
    values = {name: shape.encode() for name, shape in shapes.items()}
    values |= {
        "Cyrillic": f"{scheme}://\u0435{netloc}".encode(),
        "fullwidth": f"{scheme}://\uff45{netloc}".encode(),
        "soft hyphen": f"{scheme}://{host}\u00ad{port}".encode(),
        "not UTF-8": f"{scheme}://{netloc}".encode() + b"\xff\xfe",
        "no-break space": own.encode() + b"\xa0",
    }
    return {name: value for name, value in values.items() if value != own.encode()}


def altered_origins(own: str) -> dict[str, bytes]:
    """Return values of one Origin header that a server refuses, or strips, by name."""
    origin = own.encode()
    return {
        "leading space": b" " + origin,
        "trailing space": origin + b" ",
        "leading tab": b"\t" + origin,
        "tab in the scheme": origin.replace(b"://", b":\t//"),
        "line feed": origin + b"\n",
        "another header": origin + b"\r\nX-Evil: 1",
        "nul": origin + b"\x00",
        "leading nul": b"\x00" + origin,
        "escape sequence": b"\x1b[31m" + origin,
        "delete": origin + b"\x7f",
        "next line": origin + b"\x85",
    }


def repeated_origins(own: str) -> dict[str, tuple[bytes, ...]]:
    """Return the values of several Origin headers, by name."""
    origin, evil = own.encode(), f"{urlsplit(own).scheme}://{EVIL}".encode()
    return {
        "twice": (origin, origin),
        "evil first": (evil, origin),
        "evil last": (origin, evil),
        "null last": (origin, b"null"),
        "empty first": (b"", origin),
        "three times": (origin, origin, origin),
    }
