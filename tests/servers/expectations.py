"""What each server can do, found by running it: the suite asserts it, the docs show it.

``python -m tests.servers.table`` writes ``docs/topics/servers.md`` from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from signal import SIGTERM
from typing import NamedTuple

__all__ = ["BARE", "SERVERS", "VERSIONS", "WITHIN", "Cells", "Expected", "Stop"]

VERSIONS = {"uvicorn": "0.54", "hypercorn": "0.18", "daphne": "4.2", "granian": "2.8"}

# Seconds in which a handler that does not read is cancelled once its client has left; the others
# are told at once.
WITHIN = 2


@dataclass(frozen=True)
class Stop:
    """What SIGTERM does to open sockets, two seconds after the last handshake.

    Attributes:
        code: of the close frame that a client sees; 1006 for none.
        told: the codes that a handler may be told before its ``finally`` runs; ``None`` where it is
            cancelled without one.
        within: seconds until the process has ended, whatever its handlers do.
        status: of the process, as ``subprocess`` has it.
        waits: whether it waits for more than the first of the handlers to end.
        at_once: what may hold if there was a handshake just before, where that is not the same.
    """

    code: int
    told: tuple[int | None, ...]
    within: int
    status: int = 0
    waits: bool = True
    at_once: Stop | None = None


@dataclass(frozen=True)
class Expected:
    """What a server can do.

    Attributes:
        name: of the server.
        stop: what SIGTERM does.
        denials: whether a denial is the response; else it is a bare 403.
        cookies: how many cookies of a denial with two reach the client.
        accept_headers: whether headers given to ``accept()`` reach the client.
        reason_sent: whether the reason of a close reaches the client.
        shift: what is added to a close code from 1001 to 2999.
        code_told: whether a handler is told the client's close code.
        reason_told: whether a handler is told the client's reason.
        no_code: the code that it is told for a close frame without one.
        lost: the code that it is told when the connection breaks.
        empty: whether empty messages are sent.
        too_big: what a client sees after a message of more than 1 MiB.
        refuses: the exception for sending a message of more than 1 MiB.
        lifespan: whether it tells of its start.
        port: the type of a port in the scope.
        scheme: whether the scope has one.
        pings: seconds between two pings, and for which an answer may be missing.
        cut_off: seconds after a close until a client that does not read is cut off.
        package: that is installed for it, where that is not its name.
        title: at the top of its column, where that is not its name.
    """

    name: str
    stop: Stop
    denials: bool = True
    cookies: int = 2
    accept_headers: bool = True
    reason_sent: bool = True
    shift: int = 0
    code_told: bool = True
    reason_told: bool = False
    no_code: int = 1005
    lost: int = 1005
    empty: bool = True
    too_big: int = 1009
    refuses: str | None = None
    lifespan: bool = True
    port: str = "int"
    scheme: str | None = "ws"
    pings: tuple[int, int] | None = None
    cut_off: int | None = None
    package: str = ""
    title: str = ""

    def code(self, code: int) -> int:
        """Return what a client sees where this package closes with ``code``."""
        return code + self.shift if 1000 < code < 3000 else code

    def status(self, status: int) -> int:
        """Return what a client sees where this package denies with ``status``."""
        return status if self.denials else 403


SERVERS = {
    expected.name: expected
    for expected in [
        Expected(
            "uvicorn",
            Stop(1012, (1012,), 6, status=-SIGTERM),
            reason_told=True,
            pings=(20, 20),
            cut_off=10,
        ),
        Expected(
            "own",
            Stop(1012, (1012,), 6, status=-SIGTERM),
            reason_told=True,
            lost=1006,
            pings=(20, 20),
            cut_off=10,
            package="uvicorn",
            title="uvicorn, our class",
        ),
        Expected(
            "hypercorn",
            Stop(1012, (1012,), 4),
            code_told=False,
            no_code=1006,
            lost=1006,
            cut_off=10,
        ),
        Expected(
            "daphne",
            Stop(4012, (None,), 1, waits=False, at_once=Stop(1006, (), 1)),
            denials=False,
            cookies=0,
            accept_headers=False,
            reason_sent=False,
            shift=3000,
            lost=1006,
            empty=False,
            too_big=1006,
            refuses="PayloadExceededError",
            lifespan=False,
            scheme=None,
            pings=(20, 30),
            cut_off=1,
        ),
        Expected(
            "granian",
            Stop(1006, (1005, 1012), 6),
            cookies=1,
            accept_headers=False,
            port="str",
            cut_off=10,
        ),
    ]
}


class Cells(NamedTuple):
    """A line of the table of what the servers do by themselves."""

    uvicorn: str
    own: str
    hypercorn: str
    daphne: str
    granian: str


BARE = {
    "close before the accept": Cells(
        "403 at once",
        "403 at once",
        "403 at once",
        "403 at once",
        "403 after the application returns",
    ),
    "`websocket.http.response`": Cells(
        "yes", "yes", "yes, chunked", "no `extensions` key", "yes, in one body only"
    ),
    "a header that comes twice in a denial": Cells(
        "sent twice", "sent twice", "sent twice", "no", "sent twice"
    ),
    "application raises before the accept": Cells("500", "500", "500", "500", "403"),
    "application returns before the accept": Cells("500", "500", "500", "dropped after 5 s", "403"),
    "application raises after it": Cells(
        "no close frame: 1006", "no close frame: 1006", "1011", "1011", "empty close: 1005"
    ),
    "application returns after it": Cells(
        "no close frame: 1006", "no close frame: 1006", "1011", "stays open", "empty close: 1005"
    ),
    "reason over 123 bytes": Cells(
        "raises", "raises", "truncates", "drops every reason", "sends it"
    ),
    "`send` after the client left": Cells(
        "raises an `OSError`", "raises an `OSError`", "silent", "silent", "silent"
    ),
    "`receive` after the disconnect": Cells(
        "may block for ever", "repeats it", "blocks", "blocks", "repeats it"
    ),
    "a subprotocol that was not offered": Cells(
        "sent", "sent", "raises", "dropped after 5 s", "sent"
    ),
    "`path` under a `root_path`": Cells("prefixed", "prefixed", "not", "not", "not"),
    "default largest message": Cells(
        "16 MiB", "16 MiB", "16 MiB", "1 MiB", "64 MiB, in frames of 16 MiB"
    ),
    "messages read ahead": Cells("1", "32", "10", "unbounded", "none"),
    "`send` to a client that stopped reading": Cells(
        "blocks", "blocks", "blocks", "never blocks", "blocks"
    ),
    "SIGTERM with an open socket": Cells(
        "1012, waits for the handler",
        "1012, waits for the handler",
        "nothing, waits for the handler",
        "nothing, ends",
        "nothing, ends",
    ),
}
