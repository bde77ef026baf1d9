"""Write ``docs/topics/servers.md`` from ``expectations.py``: ``python -m tests.servers.table``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from signal import SIGTERM

from .expectations import BARE, SERVERS, VERSIONS, WITHIN, Expected

__all__ = ["PAGE", "page"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "topics" / "servers.md"

ROWS: dict[str, Callable[[Expected], str]] = {
    "messages, groups, users, limits": lambda server: "yes",
    "every end of a handler is a deliberate close frame": lambda server: "yes",
    "status of a denial": lambda server: "yes" if server.denials else "403 always",
    "headers and body of a denial": lambda server: _yes(server.denials),
    "cookies of a denial": lambda server: {2: "yes", 1: "the last one", 0: "no"}[server.cookies],
    "headers with the accept": lambda server: _yes(server.accept_headers),
    "close codes": lambda server: (
        f"1000 and 3000-4999; others go out {server.shift} higher" if server.shift else "yes"
    ),
    "close reasons": lambda server: _yes(server.reason_sent),
    "empty messages": lambda server: "yes" if server.empty else "received, never sent",
    "a message of more than 1 MiB, the default limit": lambda server: _seen(server.too_big),
    "sending more than 1 MiB": lambda server: (
        f"raises `{server.refuses}`; to a group, 1011" if server.refuses else "yes"
    ),
    "code of the client's close": lambda server: (
        "yes" if server.code_told else f"always {server.lost}"
    ),
    "reason of the client's close": lambda server: _yes(server.reason_told),
    "code where the client gives none": lambda server: str(server.no_code),
    "code where the connection breaks": lambda server: str(server.lost),
    "a handler that never reads is cancelled within": lambda server: f"{WITHIN} s",
    "pings by default: interval, time-out": lambda server: (
        "{} s, {} s".format(*server.pings) if server.pings else "none"
    ),
    "a client that vanished is noticed after": lambda server: (
        f"{sum(server.pings)} s" if server.pings else "not by default"
    ),
    "a client that does not read is cut off": lambda server: (
        f"{server.cut_off} s after the close" if server.cut_off else "never"
    ),
    "`WEBSOCKET_LIFESPAN`, `websocket.state`": lambda server: (
        "yes" if server.lifespan else "entered before the first connection, never left"
    ),
    "SIGTERM: the client is told": lambda server: (
        _seen(server.stop.code) + ("" if server.stop.waits else ", or not: 1006")
    ),
    "SIGTERM: the handler is told": lambda server: " or ".join(
        "no code" if code is None else str(code) for code in server.stop.told
    ),
    "SIGTERM: `finally` runs": lambda server: _yes(bool(server.stop.told)),
    "SIGTERM: the process ends within": lambda server: f"{server.stop.within} s",
    "SIGTERM: the exit status": lambda server: (
        "killed by SIGTERM" if server.stop.status == -SIGTERM else str(server.stop.status)
    ),
    "`scope` has a scheme": lambda server: _yes(server.scheme is not None),
    "ports in the `scope` are": lambda server: f"`{server.port}`",
}

HEAD = """\
# What each server honours

This package runs on any ASGI server. What ASGI leaves open, servers decide, and not alike. The
first table says what a site gets; the second, what the bare servers do and why the first is not
all "yes".

## With this package

{versions}, on Python 3.13. `tox -e servers` asserts
every line on every server; `python -m tests.servers.table` writes this page from what it asserts.

"""
BETWEEN = """
When a client does not read, its close frame waits behind everything else. This package
cuts it off on uvicorn, hypercorn and granian; daphne does so itself. A denial that a client does
not read ends the same way on uvicorn, hypercorn and daphne; granian waits for it, also when it
stops, unless `--workers-kill-timeout` says for how long. A second Ctrl-C on uvicorn waits for no
client; hypercorn takes no notice of it. A client that vanished is noticed where the server sends
pings; elsewhere turn them on, or use `@idle_timeout`.

On Python 3.12 and later hypercorn waits for every connection and tells none of them; how the
package sees that, and cuts a client off, is private to hypercorn 0.18. daphne cancels the
handlers, and the package closes for them; but daphne waits only for the first of them to end, and
what the others have sent by then may be lost. After a handshake in the last second daphne 4.2.3
itself fails (`KeyError: 'application_instance'`): no client is told, and no `finally` runs.

granian before 2.8.9 loses its worker by a denial with two headers of one name, so that here it
gets the last cookie alone.

uvicorn is what this package is developed and measured on, and what `manage.py runserver` uses;
"our class" is [one for its sockets](uvicorn.md), which any ASGI application can use. All pass the
same frames as without this package: see [Conformance](conformance.md).

```{toctree}
:hidden:

conformance
```

## What the servers do by themselves

"""

AFTER = """
## What a message takes before it is refused

A server collects a message before anybody sees it, so that its own limit counts too, and not
`WEBSOCKET_MAX_MESSAGE_SIZE` alone. Set it a little above: see
[Run uvicorn with workers, under systemd](../howto/uvicorn.md). Memory of the server when 100
clients each send 15 MiB, measured once, and with 1.1 MB in the option:

| | uvicorn | hypercorn | daphne | granian |
|---|---|---|---|---|
| the option | `--ws-max-size` | in its file | 1 MiB by default | none |
| before | 55 MB | 95 MB | 80 MB | 105 MB |
| as it is | 1.6 GB | 1.5 GB | 85 MB | 1.6 GB |
| with the option | 55 MB | 0.5 GB | 85 MB | |
| 15 KB that inflate to 15 MiB | 1.6 GB | 1.4 GB | no compression | no compression |
| the same with the option | 165 MB | 2 GB: it inflates before it counts | | |
| the same without compression | 55 MB | can not be had | | |

hypercorn's option, `websocket_max_message_size`, can be set in its configuration file only;
daphne's is `--websocket-max-message-size`.
"""


def _yes(does: bool) -> str:
    return "yes" if does else "no"


def _seen(code: int) -> str:
    return "no close frame: 1006" if code == 1006 else str(code)


def table(rows: Mapping[str, Iterable[str]]) -> str:
    """Return a table with a column for each server."""
    lines = [
        f"| | {' | '.join(one.title or name for name, one in SERVERS.items())} |",
        "|---" * (len(SERVERS) + 1) + "|",
        *(f"| {what} | {' | '.join(cells)} |" for what, cells in rows.items()),
    ]
    return "\n".join(lines) + "\n"


def page() -> str:
    """Return the page."""
    versions = ", ".join(f"{name} {version}" for name, version in VERSIONS.items())
    site = {what: map(cell, SERVERS.values()) for what, cell in ROWS.items()}
    return HEAD.format(versions=versions) + table(site) + BETWEEN + table(BARE) + AFTER


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
