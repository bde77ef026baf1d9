"""From the scope of a handshake to a Django request.

The request is a GET over http or https, so that everything that reads a request works: hosts,
cookies, ``build_absolute_uri()``, middleware, ``reverse()``. Building one costs about 10 us, which
is why nothing here runs before somebody asks.

``Daphne-Root-Path`` is a header that any client may send, and daphne makes it the ``root_path``. A
proxy in front of daphne has to strip it; a scope does not tell where its root_path came from.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import cached_property, partial
from io import BytesIO
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.core import exceptions
from django.core.handlers.asgi import ASGIRequest
from django.utils.asyncio import async_unsafe
from django.utils.functional import LazyObject, SimpleLazyObject, empty

from ..auth.sessions import open_session
from ..auth.users import aload_user, load_user
from ..typing import Scope

__all__ = ["BadRequest", "HandshakeRequest", "build_request", "split_path"]

SCHEMES = {"ws": "http", "wss": "https"}

# The scheme in a Forwarded header (RFC 7239 section 4); and what is between quotes, a host, say,
# that only looks like one: to the end where the second quote is missing, so that nothing is read
# twice.
_FORWARDED = re.compile(
    r"""(?P<proto>(?:^|[;,])\s*proto=)(?P<quote>"?)(?P<scheme>wss?)(?P=quote)(?=\s*(?:[;,]|$))"""
    r"""|"(?:[^"\\]|\\.)*+(?:"|\\?\Z)""",
    re.IGNORECASE | re.DOTALL,
)


class BadRequest(exceptions.BadRequest, exceptions.SuspiciousOperation):
    """The handshake can not be read as a request: answer it with 400."""


class HandshakeRequest(ASGIRequest):
    """The request of a handshake: ``session``, ``user`` and ``auser`` are always there, and lazy.

    What middleware has set decides who the user is::

        nothing       whom the session names, once somebody asks
        user = x      x, which auser() resolves if it is lazy
        auser = f     whom f returns, unless the user is known already

    Django's ``AuthenticationMiddleware`` sets both, and its way to load the user writes to the
    session: it counts as nothing.

    ``scope`` is a copy of the server's scope with the changes of ``build_request()``.
    """

    scope: dict[str, Any]
    _user: Any = empty
    _auser: Callable[[], Awaitable[Any]] | None = None
    around: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]] | None = None
    """called, where it is set, with what loads the user, to await it"""
    user_from_session: bool = True
    """whether it is the session that says who the user is, and not a middleware"""

    @cached_property
    def session(self) -> SessionBase:  # type: ignore[override]
        """The session that the cookie names, or the one that middleware opened."""
        return open_session(self)

    @property
    def user(self) -> Any:
        """The user; before ``await auser()`` it may be touched in sync code only."""
        if self._user is empty:
            self._user = _SessionUser(partial(self._load_user, self._auser))
        return self._user

    @user.setter
    def user(self, user: Any) -> None:
        self._user, self._auser = user, None
        self.user_from_session = False

    @property
    def auser(self) -> Callable[[], Awaitable[Any]]:
        """Return the user, and resolve ``user`` with it."""
        return self._auser or self._aload_user

    @auser.setter
    def auser(self, auser: Callable[[], Awaitable[Any]]) -> None:
        loader = getattr(auser, "func", auser)
        self.user_from_session = (
            getattr(loader, "__module__", None) == "django.contrib.auth.middleware"
        )
        if self.user_from_session:
            self._user, self._auser = empty, None
        else:
            self._auser = partial(self._aload_user, auser)
            if type(self._user) is _SessionUser and not _is_known(self._user):
                self._user = empty  # who has it already has the user from before

    @property
    def user_is_known(self) -> bool:
        """Whether ``user`` is resolved, or was set by middleware."""
        return _is_known(self._user)

    def resolve_user(self) -> Any:
        """Return the user itself; where an event loop runs it has to be resolved already."""
        return self._keep(self.user)

    def _load_user(self, auser: Callable[[], Awaitable[Any]] | None) -> Any:
        return _bare(self._user) if _is_known(self._user) else self._load_user_now(auser)

    @async_unsafe(
        "The user is not resolved yet, and finding out may block: use 'await websocket.auser()', "
        "or decorate the handler with with_user or login_required."
    )
    def _load_user_now(self, auser: Callable[[], Awaitable[Any]] | None) -> Any:
        return load_user(self.session) if auser is None else async_to_sync(auser)()

    @property
    def has_session(self) -> bool:
        """Whether somebody has asked for ``session``, or has set it."""
        return "session" in self.__dict__

    async def _aload_user(self, supplied: Callable[[], Awaitable[Any]] | None = None) -> Any:
        user = self._user
        if _is_known(user):
            return self._keep(user)
        load: Callable[[], Awaitable[Any]]
        if supplied is not None:
            load = supplied
        # isinstance() would evaluate a lazy object of another class.
        elif user is empty or type(user) is _SessionUser:
            load = partial(aload_user, self.session)
        else:
            load = partial(sync_to_async(_bare), user)
        if supplied is None and self._auser is not None:
            return await load()  # for a middleware's own, which is around this one: that is kept
        return self._keep(await (load() if self.around is None else self.around(load)))

    def _keep(self, user: Any) -> Any:
        # Another task, or a middleware, may have been faster.
        self._user = _bare(self._user if _is_known(self._user) else user)
        return self._user


class _SessionUser(SimpleLazyObject):  # type: ignore[type-arg]
    """The user of the session, not asked for yet."""


def _is_known(user: Any) -> bool:
    return (user._wrapped if isinstance(user, LazyObject) else user) is not empty


def _bare(user: Any) -> Any:
    if isinstance(user, LazyObject):
        if user._wrapped is empty:
            user._setup()
        return user._wrapped
    return user


def split_path(scope: Scope) -> tuple[str, str]:
    """Return the script prefix, without a trailing slash, and the path below it.

    uvicorn puts ``root_path`` in front of ``path``, the other servers do not. A prefix counts only
    where a segment ends: ``/sub`` is no prefix of ``/subway/``.
    """
    prefix = (settings.FORCE_SCRIPT_NAME or scope.get("root_path") or "").rstrip("/")
    path: str = scope.get("path") or "/"
    if prefix and (path == prefix or path.startswith(prefix + "/")):
        path = path[len(prefix) :] or "/"
    return prefix, path


def build_request(scope: Scope) -> HandshakeRequest:
    """Return the handshake as a GET request without a body.

    Servers leave out keys that the ASGI spec requires: each of them may be missing in a scope.

    Raises:
        BadRequest: the query string is not UTF-8, or a header can not be understood.
    """
    prefix, path = split_path(scope)
    copy = dict(
        scope,
        type="http",
        method="GET",
        scheme=_page_scheme(scope.get("scheme") or "ws"),
        root_path=prefix,
        path=prefix + path,
        query_string=scope.get("query_string") or b"",
        headers=scope.get("headers") or [],
        client=_address(scope.get("client")),
        server=_address(scope.get("server")),
    )
    try:
        copy["path"].encode()  # a lone surrogate can not be quoted
        request = HandshakeRequest(copy, BytesIO())
    except (ValueError, exceptions.BadRequest) as exc:
        raise BadRequest(f"The handshake is not a request: {exc}") from exc
    if settings.SECURE_PROXY_SSL_HEADER:
        _read_proxy(request.META, *settings.SECURE_PROXY_SSL_HEADER)
    return request


def _page_scheme(scheme: str) -> str:
    return SCHEMES.get(scheme.strip().lower(), scheme)


def _read_proxy(meta: dict[str, Any], name: str, secure: str) -> None:
    """Let a proxy say of a socket, in ``SECURE_PROXY_SSL_HEADER``, what it says of a page.

    Some write ``wss`` into ``X-Forwarded-Proto`` where the page's request had ``https``. Nothing
    else in the header changes.
    """
    value = meta.get(name)
    if not isinstance(value, str) or value.partition(",")[0].strip() == secure:
        return  # not sent, or what the site waits for
    if name == "HTTP_FORWARDED":
        meta[name] = _FORWARDED.sub(_page_proto, value)
    else:
        meta[name] = ",".join(map(_page_scheme, value.split(",")))


def _page_proto(match: re.Match[str]) -> str:
    if match["scheme"] is None:
        return match[0]
    return f"{match['proto']}{match['quote']}{_page_scheme(match['scheme'])}{match['quote']}"


def _address(address: Any) -> tuple[Any, Any] | None:
    # A server on a Unix socket has no port, and some have neither.
    try:
        host, port = address
    except (TypeError, ValueError):
        return None
    return host, port
