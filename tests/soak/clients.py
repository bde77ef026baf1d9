"""A client of the soak: all that it does follows from the seed and its number."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.soak.ledger import Membership
from tests.soak.rolls import Rolls
from tests.soak.rooms import GROUPS, KEPT, SIZES
from tests.soak.seats import Seats
from tests.soak.stays import HistoryLedger, Since
from tests.soak.visits import Visits

__all__ = ["Client", "Site"]

# Seconds after which a server that has not answered is a finding. No timing: a loaded machine may
# take its time.
DEADLINE = 120.0
ENDS = ["close", "close", "abort", "abort", "return", "raise", "cancel", "stay", "half"]


class Site(Protocol):
    """What a client needs to know."""

    seed: int
    ledger: HistoryLedger
    rolls: Rolls
    counts: Counter[str]
    urls: list[str]
    over: bool

    def left_out(self, number: int) -> bool:
        """Return whether a client shall overlook what has just come to it."""

    async def login(self, number: int, user: str) -> str:
        """Return the session key of a new session."""

    async def logout(self, number: int, session: str) -> None:
        """End a session."""


class Gone(Exception):
    """The socket is closed."""


class Client:
    """One socket after another, each with a number of its own.

    Args:
        site: the program.
        number: its own.
        since: what a socket before it has had of the groups that remember.
        page: whose socket it is.
    """

    def __init__(
        self, site: Site, number: int, since: dict[str, Since] | None = None, page: str = ""
    ) -> None:
        self.site = site
        self.number = number
        self.random = random.Random(f"{site.seed} {number}")
        self.url = site.urls[number % len(site.urls)]
        self.groups: dict[str, Membership] = {}
        self.last: defaultdict[str, dict[int, int]] = defaultdict(dict)
        self.answers: deque[asyncio.Future[str]] = deque()
        self.reading = asyncio.Event()
        self.reading.set()
        self.changed = asyncio.Event()
        self.allowed = {4500, 1013}
        self.page = page or f"client-{number}"
        self.seats = Seats(self, self.page)
        self.visits = Visits(self, dict(since or {}))
        self.socket: ClientConnection | None = None

    def choose_kind(self) -> str:
        kinds = ["plain", "slow", "hog", "push", "deny", "user"]
        return self.random.choices(kinds, [80, 8, 2, 4, 3, 3])[0]

    async def run(self) -> None:
        kind = self.choose_kind()
        self.site.counts[f"clients, {kind}"] += 1
        headers = {}
        session = ""
        if kind == "user":
            session = await self.site.login(self.number, f"user-{self.number % 20}")
            headers["Cookie"] = f"sessionid={session}"
        path = kind if kind in ("push", "deny") else "member"
        raw = await self._open_narrowly() if kind in ("slow", "hog") else None
        opening = connect(
            f"{self.url}/ws/{path}/",
            sock=raw,
            additional_headers=headers,
            compression="deflate" if self.random.random() < 0.1 else None,
            max_size=None,
            max_queue=1 if raw is not None else 16,
            open_timeout=DEADLINE,
            close_timeout=DEADLINE,
            ping_interval=None,
            proxy=None,
        )
        try:
            self.socket = await opening
        except InvalidStatus as exc:
            if kind != "deny" or exc.response.status_code != 403:
                self.violated(f"was denied with {exc.response.status_code}")
            return
        except (OSError, TimeoutError) as exc:
            self.violated(f"could not connect: {exc!r}")
            return
        reader = asyncio.create_task(self._read())
        try:
            await getattr(self, f"_act_{kind}", self.act)()
            if kind == "user":
                await self._log_out(session)
            else:
                await self.end()
        except Gone:
            pass
        finally:
            self.reading.set()
            try:
                await asyncio.wait_for(reader, DEADLINE)
            except TimeoutError:
                self.violated("its socket does not end")
            self.socket.transport.abort()

    async def _open_narrowly(self) -> socket.socket:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        raw.setblocking(False)
        host, _, port = self.url.removeprefix("ws://").partition(":")
        await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
        return raw

    def give_up(self) -> None:
        """Be gone at once."""
        self.allowed |= {1006}
        if self.socket is not None:
            self.socket.transport.abort()

    def violated(self, what: str) -> None:
        self.site.ledger.violated(f"client {self.number} {what}")

    # Reading

    async def _read(self) -> None:
        ledger = self.site.ledger
        try:
            while True:
                await self.reading.wait()
                data = await self.socket.recv()
                text = data if isinstance(data, str) else data.decode()
                if text.startswith("="):
                    if self.answers:
                        answer = self.answers.popleft()
                        if not answer.done():
                            answer.set_result(text[1:])
                    continue
                if text.startswith("!"):
                    self.visits.tell(json.loads(text[1:]))
                    continue
                if text.startswith("~"):
                    self.seats.tell(json.loads(text[1:]))
                    continue
                if self.site.left_out(self.number):
                    continue
                group = text.split(" ", 2)[1]
                membership = self.groups.get(group)
                if membership is None:
                    self.violated(f"got a message of {group}: {text[:50]}")
                else:
                    ledger.receive(membership, self.last[group], text)
                    self.changed.set()
        except ConnectionClosed as exc:
            self.be_closed(exc.rcvd.code if exc.rcvd else 1006, exc.rcvd.reason if exc.rcvd else "")

    def be_closed(self, code: int, reason: str) -> None:
        self.site.counts[f"closed, {code}"] += 1
        if code not in self.allowed and not self.visits.may_be_closed(code, reason):
            self.violated(f"was closed with {code} {reason!r}, not one of {sorted(self.allowed)}")
        group, _, number = reason.partition(" ")
        if code == 4500 and group not in self.groups:
            self.violated(f"was closed as a member of {group}")
        self.seats.end()
        self.visits.end((group, int(number)) if code == 4500 else None)
        for membership in self.groups.values():
            closed_by = int(number) if code == 4500 and membership.group == group else None
            self.site.ledger.leave(membership, closed_by)
        self.groups.clear()
        for answer in self.answers:
            if not answer.done():
                answer.set_exception(Gone())
                answer.exception()
        self.answers.clear()
        self.closed = True
        self.changed.set()

    closed = False

    # Asking

    async def _say(self, do: str, **details: Any) -> asyncio.Future[str]:
        """Send an order; the future has the answer."""
        if self.closed:
            raise Gone
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.answers.append(answer)
        try:
            await self.socket.send(json.dumps({"do": do, "client": self.number, **details}))
        except ConnectionClosed:
            raise Gone from None
        return answer

    async def ask(self, do: str, **details: Any) -> str:
        return await self.wait_for(await self._say(do, **details))

    async def wait_for(self, answer: asyncio.Future[str]) -> str:
        try:
            return await asyncio.wait_for(answer, DEADLINE)
        except TimeoutError:
            self.violated("waits for an answer")
            self.allowed |= {1006}
            self.socket.transport.abort()
            raise Gone from None

    async def _join(self, group: str) -> None:
        membership = self.groups[group] = self.site.ledger.join(self.number, group)
        await self.ask("join", group=group, twice=self.random.random() < 0.2)
        membership.joined = self.site.ledger.now()

    async def _leave(self, group: str) -> None:
        await self.ask("leave", group=group)
        self.site.ledger.leave(self.groups.pop(group))

    async def _publish(self, group: str, count: int = 1, size: int | None = None) -> None:
        """Publish, and wait for the acknowledgement."""
        await self._published(*await self.start_publishing(group, count, size))

    async def start_publishing(
        self, group: str, count: int = 1, size: int | None = None, *, exclude: bool | None = None
    ) -> tuple[list[Any], asyncio.Future[str]]:
        if exclude is None:
            exclude = self.random.random() < 0.1
        how = self.random.choice(["text", "text", "binary", "sync"])
        if size is None:
            size = self.random.choice(SIZES)
        messages = self.site.ledger.begin(group, self.number, count=count, excluded=exclude)
        answer = await self._say(
            "publish",
            group=group,
            id=messages[0].id,
            count=count,
            size=size,
            how=how,
            exclude=exclude,
        )
        return messages, answer

    async def _published(self, messages: list[Any], answer: asyncio.Future[str]) -> None:
        await self.wait_for(answer)
        self.site.ledger.acknowledge(messages)

    async def _fence(self) -> None:
        """Learn whether all is there that must be: a message of one's own to each group."""
        await self.visits.fence()
        for group in sorted(set(self.groups).difference(KEPT)):
            if group in self.groups:
                messages = self.site.ledger.begin(group, self.number)
                answer = await self._say(
                    "publish",
                    group=group,
                    id=messages[0].id,
                    count=1,
                    size=0,
                    how="text",
                    exclude=False,
                )
                await self._published(messages, answer)
                await self.until(
                    lambda: self.closed or messages[0].id <= self.groups[group].reach  # noqa: B023
                )

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    # Lives

    async def act(self) -> None:
        choose, pause = self.random.choice, self.random.expovariate
        await self.visits.come_back()
        for _ in range(self.random.randint(3, 30)):
            await asyncio.sleep(pause(4))
            if self.site.over:
                break
            action = self.random.randrange(100)
            here = sorted(set(self.groups).difference(KEPT))
            kind = self.random.random()
            if kind < 0.35:
                await self.visits.act()
            elif kind < 0.45:
                await self.seats.act()
            elif action < 25 or not here:
                group = choose(GROUPS)
                if group not in self.groups and len(here) < 5:
                    await self._join(group)
            elif action < 40:
                await self._leave(choose(here))
            elif action < 80:
                # Not only to groups that it is in itself.
                await self._publish(choose([*here, choose(GROUPS)]))
            elif action < 88:
                started = [
                    await self.start_publishing(choose(here))
                    for _ in range(self.random.randint(2, 8))
                ]
                for messages, answer in started:
                    await self._published(messages, answer)
            elif action < 92:
                text = "é" * choose([1, 1000, 100_000])
                if await self.ask("echo", text=text) != str(zlib.crc32(text.encode())):
                    self.violated("got a wrong echo")
            elif action < 94:
                await self.ask("query")
            elif action < 95:
                await self.close_a_group(choose(GROUPS))
            else:
                await self._fence()
        await self._fence()

    async def close_a_group(self, group: str) -> None:
        exclude = self.random.random() < 0.5
        how = self.random.choice(["sync", "async"])
        messages = self.site.ledger.begin(group, self.number, excluded=exclude, closes=True)
        answer = await self._say("close", group=group, id=messages[0].id, exclude=exclude, how=how)
        if await self.wait_for(answer) == "done":
            self.site.ledger.acknowledge(messages)

    async def _act_slow(self) -> None:
        """Reads now and then."""
        await self.visits.come_back()
        for _ in range(self.random.randint(1, 3)):
            self.reading.set()
            group = self.random.choice(GROUPS)
            if group not in self.groups:
                await self._join(group)
            self.reading.clear()
            await asyncio.sleep(self.random.uniform(0.5, 3))
            if self.site.over or self.closed:
                break
        self.reading.set()
        await self._fence()

    async def _act_hog(self) -> None:
        """Does not read what it orders: it is closed, or aborted once it has not read that."""
        group = f"hog-{self.number}"
        await self._join(group)
        self.reading.clear()
        self.allowed |= {1006}
        for _ in range(4):
            await self.start_publishing(group, 40, 70_000)
        await asyncio.sleep(self.random.choice([1, 12]))
        self.reading.set()

    async def _act_push(self) -> None:
        self.groups["pushed"] = self.site.ledger.join(self.number, "pushed")
        self.allowed |= {1006}
        for _ in range(self.random.randint(1, 100)):
            with suppress(ConnectionClosed):
                await self.socket.send("nobody reads this")
        await asyncio.sleep(self.random.uniform(0, 3))

    async def _act_user(self) -> None:
        name = await self.ask("user")
        if name != f"user-{self.number % 20}":
            self.violated(f"is taken for {name!r}")
        await self.act()

    async def _log_out(self, session: str) -> None:
        """From then on only the server closes it."""
        self.allowed |= {4401}
        await self.site.logout(self.number, session)
        await self.until(lambda: self.closed)

    async def end(self) -> None:
        end = self.random.choice(ENDS)
        if self.closed:
            return
        self.site.counts[f"ends, {end}"] += 1
        if end in ("return", "raise", "cancel") and "pushed" not in self.groups:
            self.allowed |= {{"return": 1000, "raise": 1011, "cancel": 1012}[end]}
            with suppress(TimeoutError):
                async with asyncio.timeout(DEADLINE):
                    await (await self._say(end))
            self.violated(f"still is there after {end!r}")
        elif end in ("abort", "half"):
            self.allowed |= {1006}
            if end == "half" and self.groups:
                with suppress(Gone):
                    await self.start_publishing(self.random.choice(GROUPS), 3)
            self.socket.transport.abort()
        else:
            if end == "stay":
                with suppress(Gone):
                    await self._say("stay", seconds=self.random.uniform(0, 15))
            self.allowed |= {1000, 1005, 1006}
            await self.socket.close()
