"""May this page connect? The Host and the Origin of a handshake (RFC 6455 section 10.2).

A browser sends cookies with a handshake from any page, and no CORS or CSRF token stands in between:
the ``Origin`` header is all there is. The rule is that of Django's ``CsrfViewMiddleware``, and
stricter where that one trusts browsers to send nothing but a scheme, a host and a port.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import DisallowedHost, ImproperlyConfigured
from django.utils.http import is_same_domain

from ..reports import quoted
from ..typing import Scope
from .allowed import DEFAULT_PORTS
from .request import BadRequest, HandshakeRequest, build_request

__all__ = ["OriginCheck", "Refusal"]

# What a browser makes of an origin (RFC 6454 section 6.2).
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://((?:[a-z0-9._-]+|\[[a-f0-9:.]+\])(?::[0-9]{1,5})?)")

_Headers = list[tuple[bytes, bytes]]

MEMO_SIZE = 1024
MEMO_KEY_BYTES = 512


class Refusal(NamedTuple):
    """Why a handshake is refused, and with which HTTP status."""

    status: int
    reason: str
    """the text of the log line; nothing in it comes from the client unescaped or at any length"""


class _Rules:
    """Which origins are allowed, and the accepted handshakes seen so far."""

    def __init__(self, origins: Iterable[str], name: str, *, own: bool) -> None:
        self.name = name
        self.own = own
        self.origins = tuple(origins)
        # "*" alone is no wildcard in CSRF_TRUSTED_ORIGINS, where it would come from by mistake.
        self.any = not own and "*" in self.origins
        # As one comes: bytes, which are read as latin-1. A site writes UTF-8 into lists of ours.
        self.exact = frozenset(
            origin if own else origin.encode(errors="surrogatepass").decode("latin-1")
            for origin in self.origins
            if "*" not in origin
        )
        self.wildcards: dict[str, list[str]] = {}
        for origin in self.origins:
            if "*" in origin and origin != "*":
                scheme, _, host = origin.partition("://")
                pattern = host.partition("/")[0].lstrip("*")
                self.wildcards.setdefault(scheme.lower(), []).append(pattern)
        self.accepted: set[tuple[Any, ...]] = set()

    def allow(self, origin: str, own: tuple[str, ...]) -> bool:
        if (self.own and origin in own) or origin in self.exact:
            return True
        match = _ORIGIN.fullmatch(origin)
        return match is not None and any(
            is_same_domain(match[2], pattern) for pattern in self.wildcards.get(match[1], ())
        )

    def expected(self, own: str, proxy: str) -> str:
        listed = _listed(self.origins)
        if not self.own:
            return f"one of {self.name} {listed}"
        return (
            f"{quoted(own)}, which is this handshake's own scheme and Host, or one of "
            f"CSRF_TRUSTED_ORIGINS {listed}. {proxy}Allow other pages with "
            "WEBSOCKET_ALLOWED_ORIGINS"
        )


class OriginCheck:
    """Checks the Host and the Origin of handshakes.

    The settings are read when it is made (``ALLOWED_HOSTS`` and ``DEBUG`` also later), and accepted
    handshakes are remembered: make a new one on ``setting_changed``.

    Args:
        allowed_origins: the value of ``WEBSOCKET_ALLOWED_ORIGINS``. ``None``: the page's own origin
            and ``CSRF_TRUSTED_ORIGINS``. A list: those instead. ``["*"]``: any, or none at all.

    Raises:
        ImproperlyConfigured: ``SECURE_PROXY_SSL_HEADER`` is not a header and its value.
    """

    def __init__(self, allowed_origins: Sequence[str] | None = None) -> None:
        if allowed_origins is None:
            self._rules = _Rules(settings.CSRF_TRUSTED_ORIGINS, "CSRF_TRUSTED_ORIGINS", own=True)
        else:
            self._rules = _Rules(allowed_origins, "WEBSOCKET_ALLOWED_ORIGINS", own=False)
        self._rules_of = cache(partial(_Rules, name="allowed_origins()", own=False))
        self._host = _raw("HTTP_X_FORWARDED_HOST") if settings.USE_X_FORWARDED_HOST else None
        self._proto: bytes | None = None
        self._secure = ""
        try:
            if settings.SECURE_PROXY_SSL_HEADER:
                name, self._secure = settings.SECURE_PROXY_SSL_HEADER
                self._proto = _raw(name)
        except (AttributeError, TypeError, ValueError) as exc:
            raise ImproperlyConfigured(
                "SECURE_PROXY_SSL_HEADER must be a tuple of a header and its value, such as "
                '("HTTP_X_FORWARDED_PROTO", "https").'
            ) from exc
        # By which a proxy decides on scheme and host, as they are in a scope.
        self._forwarded = tuple(name for name in (self._host, self._proto) if name is not None)
        self._deciding = frozenset((b"host", b"origin", *self._forwarded))

    def check(self, scope: Scope, allowed: Sequence[str] | None = None) -> Refusal | None:
        """Return why the handshake is refused, or ``None``. It raises for nothing in a header.

        The origins that a handler was decorated with count instead of the setting's.
        """
        rules = self._rules if allowed is None else self._rules_of(tuple(allowed))
        if not self._forwarded:
            # A browser's connect, on every handshake: one pass, which costs less than a dict of
            # names that have to be hashed. A repeated header takes the long way.
            host = origin = None
            for name, value in scope.get("headers", ()):
                if name == b"host":
                    if host is not None:
                        break
                    host = value
                elif name == b"origin":
                    if origin is not None:
                        break
                    origin = value
            else:
                if origin is not None and (scope.get("scheme"), host, origin) in rules.accepted:
                    return None
        return self._check(scope, rules)

    def check_host(self, scope: Scope) -> Refusal | None:
        """Return why the Host of the handshake is refused, or ``None``."""
        request = self._request(scope, self._headers(scope))
        return request if isinstance(request, Refusal) else None

    def _headers(self, scope: Scope) -> _Headers:
        # Names as ASGI has them, in lower case: a server that does not must not hide an Origin.
        return [
            (lower, bytes(value))
            for name, value in scope.get("headers", ())
            if (lower := bytes(name).lower()) in self._deciding
        ]

    def _check(self, scope: Scope, rules: _Rules) -> Refusal | None:
        headers = self._headers(scope)
        scheme = scope.get("scheme")
        key = (scheme, *headers)
        if key in rules.accepted:
            return None
        request = self._request(scope, headers)
        if isinstance(request, Refusal):
            return request
        hosts, origins = _values(headers, b"host"), _values(headers, b"origin")
        if origins and not rules.any:
            if len(origins) > 1:
                return Refusal(403, f"{len(origins)} Origin headers: expected one.")
            origin, own = origins[0].decode("latin-1"), _own_origins(request)
            if not rules.allow(origin, own):
                expected = rules.expected(own[0], self._advice(request, headers))
                return Refusal(403, f"Origin {quoted(origin)} is not allowed: expected {expected}.")
        # Without a Host it is the server's address that counts, and it is no part of the key.
        if hosts and sum(len(value) for _, value in headers) <= MEMO_KEY_BYTES:
            if len(rules.accepted) >= MEMO_SIZE:  # strangers can make many
                rules.accepted.clear()
            rules.accepted.update((key, (scheme, hosts[0], *origins[:1])))
        return None

    def _request(self, scope: Scope, headers: _Headers) -> HandshakeRequest | Refusal:
        """Return the request of a handshake whose host Django's ``get_host()`` takes."""
        hosts = [value.decode("latin-1") for value in _values(headers, b"host")]
        if len(hosts) > 1:
            return Refusal(400, f"{len(hosts)} Host headers: expected one.")
        try:
            request = build_request(scope)
        except BadRequest as exc:
            return Refusal(400, quoted(str(exc)))
        try:
            request.get_host()
        except DisallowedHost:
            name = "Host"
            if settings.USE_X_FORWARDED_HOST and "HTTP_X_FORWARDED_HOST" in request.META:
                name, hosts = "X-Forwarded-Host", [request.META["HTTP_X_FORWARDED_HOST"]]
            came = f"{name} {quoted(hosts[0])}" if hosts else "A handshake without a Host"
            expected = f"one of ALLOWED_HOSTS {_listed(settings.ALLOWED_HOSTS)}"
            if settings.DEBUG and not settings.ALLOWED_HOSTS:
                expected = "localhost, since ALLOWED_HOSTS is empty"
            return Refusal(400, f"{came} is not allowed: expected {expected}.")
        return request

    def _advice(self, request: HandshakeRequest, headers: _Headers) -> str:
        """Return what to set for a proxy, and what came where that is set."""
        unset = []
        said = ""
        if self._host is None:
            unset.append("USE_X_FORWARDED_HOST if it changes Host")
        else:
            said += f"USE_X_FORWARDED_HOST is set, and {_said(self._host, request, headers)}. "
        if self._proto is None:
            unset.append("SECURE_PROXY_SSL_HEADER if it ends TLS")
        else:
            said += (
                f"SECURE_PROXY_SSL_HEADER waits for {quoted(str(self._secure))}, and "
                f"{_said(self._proto, request, headers)}. "
            )
        return said + (f"Behind a proxy set {' and '.join(unset)}. " if unset else "")


def _own_origins(request: HandshakeRequest) -> tuple[str, ...]:
    # A Host with the default port is the same as one without, and browsers leave it out of an
    # origin (RFC 6454 section 6.1): then it is both.
    scheme, host = str(request.scheme), request.get_host()
    port = f":{DEFAULT_PORTS.get(scheme)}"
    if host.endswith(port):
        return f"{scheme}://{host.removesuffix(port)}", f"{scheme}://{host}"
    return (f"{scheme}://{host}",)


def _raw(name: str) -> bytes:
    return name.removeprefix("HTTP_").replace("_", "-").lower().encode("latin-1")


def _values(headers: _Headers, name: bytes) -> list[bytes]:
    return [value for other, value in headers if other == name]


def _said(name: bytes, request: HandshakeRequest, headers: _Headers) -> str:
    header = name.decode("latin-1").title()
    values = _values(headers, name)
    if not values:
        return f"there was no {header}"
    came, read = b",".join(values).decode("latin-1"), request.headers.get(header)
    meaning = f", read as {quoted(read)}" if read is not None and read != came else ""
    return f"{header} was {quoted(came)}{meaning}"


def _listed(items: Sequence[str]) -> str:
    return f"[{', '.join(map(quoted, items[:8]))}{', ...' * (len(items) > 8)}]"
