"""Options of one handler.

Each works on both handler forms; they stack in any order. A decorator leaves what it is given as it
is, and returns another handler of the same kind, with the same name, docstring, signature and
attributes: ``members = login_required(chat)`` needs a login, and ``chat`` does not. The dispatcher
enforces the option; called directly, as in a test, the one does what the other does.

An option counts wherever it stands: on what a wrapper with ``functools.wraps()`` or a
``functools.partial`` calls, an object's ``__call__``, the class behind Channels' ``as_asgi()``.
What a handler calls in its own body nobody sees: the check ``ws_dispatch.W012`` warns where
decorators are lost like that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from .handshake.allowed import check_origins
from .limits import parse_rate
from .routing.options import decorated

if TYPE_CHECKING:
    # With the plugin of django-stubs that is AUTH_USER_MODEL, as request.user has it.
    from django.contrib.auth.models import _AnyUser as AnyUser

__all__ = [
    "allowed_origins",
    "asgi_handler",
    "connection_limit",
    "idle_timeout",
    "login_required",
    "max_message_size",
    "permission_required",
    "rate_limit",
    "recheck_user",
    "subprotocols",
    "user_passes_test",
    "with_user",
]

H = TypeVar("H", bound=Callable[..., Any])


def asgi_handler(handler: H) -> H:
    """Mark a callable as a raw ASGI application.

    A callable whose first three parameters are named ``scope, receive, send`` is one without it.

    Args:
        handler: any ASGI 3 application.
    """
    return decorated(handler, "asgi_handler", asgi=True)


def with_user(handler: H) -> H:
    """Resolve the user before the handler runs, so that ``websocket.user`` is there.

    A raw handler finds ``scope["user"]`` and ``scope["session"]``.

    Args:
        handler: of either form.
    """
    return decorated(handler, "with_user", needs_user=True)


def login_required(handler: H) -> H:
    """Deny the handshake with 401 unless a user is logged in. Includes ``with_user``.

    Args:
        handler: of either form.
    """
    return decorated(handler, "login_required", needs_user=True, login=True)


def permission_required(perm: str | Iterable[str]) -> Callable[[H], H]:
    """Deny the handshake with 401 to anonymous users, and with 403 to users without a permission.

    Args:
        perm: ``"app_label.codename"``, or several, all of which are needed.
    """
    if callable(perm):
        raise TypeError('Write @permission_required("app_label.codename").')
    perms = (perm,) if isinstance(perm, str) else tuple(perm)
    return _setting("permission_required", needs_user=True, login=True, permissions=perms)


def user_passes_test(
    test: Callable[[AnyUser], bool | Awaitable[bool]],
) -> Callable[[H], H]:
    """Deny the handshake with 403 unless ``test(user)`` is true.

    Args:
        test: a function or a coroutine function of the user.
    """
    if not callable(test):
        raise TypeError(f"user_passes_test() takes a function of the user, not {test!r}.")
    return _setting("user_passes_test", needs_user=True, tests=(test,))


def subprotocols(*names: str) -> Callable[[H], H]:
    """Declare the subprotocols that the handler speaks.

    The first that the client offers among them is chosen, unless ``accept()`` names one.

    Args:
        names: of the subprotocols.
    """
    if not names or not all(isinstance(name, str) and name for name in names):
        raise TypeError('Name the subprotocols: @subprotocols("chat.v2", "chat.v1").')
    return _setting("subprotocols", subprotocols=names)


def allowed_origins(*origins: str) -> Callable[[H], H]:
    """Let these origins in, instead of those of ``WEBSOCKET_ALLOWED_ORIGINS``.

    Args:
        origins: as in ``WEBSOCKET_ALLOWED_ORIGINS``.

    Raises:
        ImproperlyConfigured: one of them is not an origin, or fits none.
    """
    if origins and callable(origins[0]):
        raise TypeError('Name the origins: @allowed_origins("https://example.com").')
    checked = tuple(check_origins("allowed_origins()", origins))
    return _setting("allowed_origins", allowed_origins=checked)


def max_message_size(size: int) -> Callable[[H], H]:
    """Close with 1009 over so many bytes in one message.

    Instead of ``WEBSOCKET_MAX_MESSAGE_SIZE``.

    Args:
        size: in bytes.
    """
    _check_positive("max_message_size", size, int)
    return _setting("max_message_size", max_message_size=size)


def rate_limit(rate: str) -> Callable[[H], H]:
    """Close with 4429 over so many messages, instead of ``WEBSOCKET_RATE_LIMIT``.

    Args:
        rate: like ``"20/s"`` or ``"600/m"``: a token bucket as deep as its number.

    Raises:
        ValueError: it is not written like that, or is more than a billion messages.
    """
    if callable(rate):
        raise TypeError('Write @rate_limit("20/s").')
    return _setting("rate_limit", rate_limit=parse_rate(rate))


def idle_timeout(seconds: float) -> Callable[[H], H]:
    """Close with 4408 after so long without a message, instead of ``WEBSOCKET_IDLE_TIMEOUT``.

    Args:
        seconds: without a message from the client.
    """
    _check_positive("idle_timeout", seconds, (int, float))
    return _setting("idle_timeout", idle_timeout=float(seconds))


def connection_limit(n: int, per: Literal["user", "handler"] = "user") -> Callable[[H], H]:
    """Deny the handshake with 429 over ``n`` open sockets of this handler, in this process.

    Args:
        n: how many.
        per: counted for each user (anonymous users are not counted), or for all.
    """
    _check_positive("connection_limit", n, int)
    if per not in ("user", "handler"):
        raise ValueError(f'connection_limit() counts per "user" or per "handler", not {per!r}.')
    user = {"needs_user": True} if per == "user" else {}
    return _setting("connection_limit", connection_limits=((n, str(per)),), **user)


def recheck_user(every: float = 60) -> Callable[[H], H]:
    """Look again whether the user is still logged in, and close with 4401 if not.

    For what sends no signal: a session deleted in the store, ``queryset.update()``, a change made
    by another process while the broker is the memory broker.

    Args:
        every: seconds between two looks.
    """
    _check_positive("recheck_user", every, (int, float))
    return _setting("recheck_user", needs_user=True, recheck_user=float(every))


def _setting(decorator: str, **changes: Any) -> Callable[[H], H]:
    def decorate(handler: H) -> H:
        return decorated(handler, decorator, **changes)

    return decorate


def _check_positive(decorator: str, value: object, kind: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, kind):
        raise TypeError(f"{decorator}() takes a number, not {value!r}.")
    if not value > 0:  # type: ignore[operator]
        raise ValueError(f"{decorator}() takes a number above 0, not {value!r}.")
