"""Which class of uvicorn serves the sockets of a server that this package starts."""

from __future__ import annotations

import asyncio

__all__ = ["DEFAULT", "check_protocol"]

DEFAULT = "django_ws_dispatch.uvicorn:WebSocketProtocol"
# What a class of ours, or of uvicorn's, may miss.
PACKAGES = ("uvicorn", "websockets", "wsproto")
REMEDY = 'pip install "django-ws-dispatch[uvicorn]"'


def check_protocol(ws: str | type[asyncio.Protocol]) -> None:
    """Look at what uvicorn is to be given for its ``--ws``, before it fails in the middle.

    Args:
        ws: a name that uvicorn knows, ``module:Class``, or a class.

    Raises:
        ImportError: a package that it needs is missing, or too old.
        ValueError: it is none of these.
    """
    from uvicorn.config import WS_PROTOCOLS
    from uvicorn.importer import ImportFromStringError, import_from_string

    why = "that is no class of a protocol."
    try:
        protocol = import_from_string(WS_PROTOCOLS.get(ws, ws) if isinstance(ws, str) else ws)
    except (ImportFromStringError, TypeError) as exc:  # TypeError: a relative name
        protocol, why = object(), str(exc)
    except ImportError as exc:
        package = (exc.name or "").partition(".")[0]
        if package in PACKAGES:
            raise type(exc)(_missing(ws, package, exc), name=exc.name) from exc
        protocol, why = object(), f"{exc}."
    if protocol is None:
        if ws == "none":
            return
        needs = "uvicorn needs the package websockets to serve WebSockets"
        raise ModuleNotFoundError(f"{needs}: {REMEDY}.", name="websockets")
    is_class = isinstance(protocol, type) and issubclass(protocol, asyncio.BaseProtocol)
    if not is_class:
        raise ValueError(
            f"{ws!r} is no WebSocket protocol for uvicorn: {why} Take one of "
            f"{', '.join(sorted(WS_PROTOCOLS))}, or module:Class; the default is {DEFAULT}."
        )


def _missing(ws: object, package: str, exc: ImportError) -> str:
    remedy = "pip install wsproto" if package == "wsproto" else REMEDY
    if isinstance(exc, ModuleNotFoundError):
        return f"{ws} needs the package {package}: {remedy}. Or choose another one, such as auto."
    return f"{ws} needs another version of the package {package} ({exc}): {remedy} --upgrade."
