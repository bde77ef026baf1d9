"""Looking again whether users are still in: one look at a time, until it can be said."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from django_ws_dispatch import lanes
from django_ws_dispatch.auth import verifier
from django_ws_dispatch.auth.users import Verdict
from django_ws_dispatch.auth.verifier import Verifier
from django_ws_dispatch.auth.watched import Watched
from django_ws_dispatch.exceptions import BrokerError
from tests.kit.waiting import until

pytestmark = pytest.mark.asyncio

IN, OUT, DOUBT = Verdict.IN, Verdict.OUT, Verdict.DOUBT


class Socket:
    """One whose user the site says this and that of: a verdict, or an exception."""

    def __init__(self, name: str = "a", *answers: Any) -> None:
        self.path = f"/ws/{name}/"
        self.watched: Watched | None = Watched(user=name)
        self.is_over = False
        self.lane_client = name
        self.answers = list(answers)
        self.looked = 0
        self.closed: list[Any] = []

    def kick(self, *how: Any) -> None:
        self.closed.append(how)
        self.is_over = True


class Site:
    """Instead of the database: who is in, and how many look at once."""

    def __init__(self) -> None:
        self.sockets: dict[str, Socket] = {}
        self.at_once = self.most = 0
        self.gate: asyncio.Event | None = None
        self.away = False

    def socket(self, name: str = "a", *answers: Any) -> Socket:
        return self.sockets.setdefault(name, Socket(name, *answers))

    def function(self, verify: Any) -> Callable[..., Awaitable[Verdict]]:
        async def look(session: Any, in_session: str | None, user: str) -> Verdict:
            socket = self.sockets[user]
            socket.looked += 1
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            try:
                await (asyncio.sleep(0) if self.gate is None else self.gate.wait())
                if self.away:
                    raise OSError("the database is away")
                answer = socket.answers.pop(0) if socket.answers else IN
                if isinstance(answer, Exception):
                    raise answer
                return answer
            finally:
                self.at_once -= 1

        return look


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    site = Site()
    monkeypatch.setattr(verifier, "sync_to_async", site.function)
    monkeypatch.setattr(verifier, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(verifier, "LONGEST_PAUSE", 0.02)
    monkeypatch.setattr(verifier, "DOUBT_SECONDS", 0.03)
    monkeypatch.setattr(verifier, "PATIENCE_SECONDS", 0.2)
    with lanes.off():
        yield site


class Asked:
    """What other processes were asked. They may be deaf for some of it."""

    def __init__(self, *failures: Exception, deaf: int = 0) -> None:
        self.about: list[Any] = []
        self.failures = list(failures)
        self.deaf = deaf
        self.heard: Callable[[Any], None] = lambda socket: None

    async def __call__(self, socket: Any, watched: Any) -> None:
        self.about.append(watched)
        if self.failures:
            raise self.failures.pop(0)
        if len(self.about) > self.deaf:
            self.heard(socket)


def make(asked: Asked | None = None) -> Verifier:
    loop = asyncio.get_running_loop()
    asked = asked or Asked()
    looks = Verifier(loop.create_task, asked)
    asked.heard = looks.heard
    return looks


async def test_who_is_in_stays_and_who_is_out_is_closed(site: Site) -> None:
    looks = make()
    ada, bob = site.socket("ada", IN), site.socket("bob", OUT)
    looks.verify(ada)
    looks.verify(bob)
    await until(lambda: bob.closed)
    assert bob.closed == [(4401, "no longer logged in")]
    await until(lambda: not looks._looking)
    assert (ada.looked, ada.closed) == (1, [])


async def test_a_look_that_fails_is_repeated_until_it_can_be_said(site: Site, caplog: Any) -> None:
    looks = make()
    ada, bob = site.socket("ada", *[OSError("away")] * 6, OUT), site.socket("bob")
    looks.verify(ada)
    looks.verify(bob)
    await until(lambda: ada.closed)
    assert ada.looked == 7
    assert [record.levelname for record in caplog.records][:2] == ["ERROR", "WARNING"]
    assert "can not be verified" in caplog.records[0].getMessage()


async def test_an_outage_is_told_once_however_many_sockets_there_are(
    site: Site, caplog: Any
) -> None:
    looks = make()
    sockets = [site.socket(str(number)) for number in range(50)]
    site.away = True
    for socket in sockets:
        looks.verify(socket)
    await until(lambda: all(socket.looked >= 3 for socket in sockets))
    site.away = False
    await until(lambda: not (looks._pauses or looks._looking or looks._timers))
    assert not any(socket.closed for socket in sockets)
    failed, back = caplog.records
    assert (failed.levelname, back.levelname) == ("ERROR", "WARNING")
    assert failed.exc_info is not None


async def test_an_outage_is_told_once_though_others_can_be_verified(
    site: Site, caplog: Any
) -> None:
    # The broker is away, and only who is in doubt has to ask.
    looks = make(Asked(*[BrokerError("away")] * 5))
    ada = site.socket("ada", *[DOUBT] * 6, IN)
    looks.verify(ada)
    while ada.looked < 7:
        looks.verify(site.socket("bob"))
        await asyncio.sleep(0.001)
    await until(lambda: not (looks._looking or looks._timers))
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


async def test_few_look_at_once_and_one_at_a_time_at_a_socket(site: Site) -> None:
    looks = make()
    site.gate = asyncio.Event()
    sockets = [site.socket(str(number)) for number in range(20)]
    for _ in range(5):
        for socket in sockets:
            looks.verify(socket)
    await until(lambda: site.at_once == verifier.AT_ONCE)
    first = sockets[0]
    for _ in range(10):
        looks.verify(first)
    site.gate.set()
    await until(lambda: not (looks._looking or looks._ready))
    assert site.most == verifier.AT_ONCE
    # Once, and once more for what happened meanwhile.
    assert first.looked == 2
    assert [socket.looked for socket in sockets[4:]] == [1] * 16


async def test_who_seems_to_be_out_is_looked_at_again_before_the_socket_is_closed(
    site: Site,
) -> None:
    asked = Asked()
    looks = make(asked)
    ada, bob = site.socket("ada", DOUBT, IN), site.socket("bob", DOUBT, DOUBT)
    looks.verify(ada)
    looks.verify(bob)
    await until(lambda: bob.closed and ada.looked == 2)
    assert not ada.closed
    assert [watched.user for watched in asked.about] == ["ada", "bob"]
    await until(lambda: not looks._doubted)


async def test_nobody_is_closed_in_doubt_while_others_can_not_be_asked(site: Site) -> None:
    looks = make(Asked(BrokerError("away"), BrokerError("away")))
    ada = site.socket("ada", DOUBT, DOUBT, DOUBT, IN)
    looks.verify(ada)
    await until(lambda: ada.looked == 4)
    await until(lambda: not (looks._looking or looks._timers))
    assert not ada.closed


async def test_nobody_is_closed_in_doubt_while_no_answer_could_be_heard(site: Site) -> None:
    looks = make(Asked(deaf=5))
    ada = site.socket("ada", *[DOUBT] * 100)
    looks.verify(ada)
    await until(lambda: ada.closed)
    # Once for each question, and once more when there was an answer to wait for.
    assert ada.looked == 7


async def test_what_was_heard_of_an_earlier_doubt_closes_nobody(site: Site) -> None:
    looks = make(Asked(deaf=100))
    ada = site.socket("ada", DOUBT, IN, DOUBT, IN)
    looks.verify(ada)
    await until(lambda: ada.looked == 2 and not looks._looking)
    looks.heard(ada)
    looks.verify(ada)
    await until(lambda: ada.looked == 4)
    assert not ada.closed


async def test_after_an_outage_of_the_broker_others_have_time_to_say_what_they_could_not(
    site: Site,
) -> None:
    asked = Asked()
    looks = make(asked)
    looks.be_patient()
    began = asyncio.get_running_loop().time()
    ada = site.socket("ada", *[DOUBT] * 100)
    looks.verify(ada)
    await until(lambda: ada.closed)
    assert asyncio.get_running_loop().time() - began > verifier.PATIENCE_SECONDS - 0.02
    assert ada.looked > 2
    assert len(asked.about) > 1  # those who were not back yet did not hear the first


async def test_a_session_that_has_just_got_its_key_may_still_be_saved(site: Site) -> None:
    looks = make()
    ada = site.socket("ada", *[DOUBT] * 5, IN, DOUBT, DOUBT)
    ada.watched = Watched(key="new", user="ada", key_since=verifier.monotonic())
    looks.verify(ada)
    await until(lambda: ada.looked == 6)
    await until(lambda: not (looks._looking or looks._timers))
    assert not ada.closed
    # Once it was found there it is a session as any other.
    looks.verify(ada)
    await until(lambda: ada.closed)


async def test_a_look_at_a_key_that_a_session_has_no_longer_closes_nobody(site: Site) -> None:
    looks = make()
    ada = site.socket("ada", DOUBT, DOUBT, IN)
    ada.session = None
    looks.verify(ada)
    await until(lambda: ada in looks._timers)
    site.gate = asyncio.Event()
    await until(lambda: ada.looked == 2)
    ada.watched = ada.watched._replace(key="another")  # while it is looked at
    await asyncio.sleep(2 * verifier.DOUBT_SECONDS)
    site.gate.set()
    await until(lambda: ada.looked == 3 and not looks._looking)
    assert ada.closed == []


async def test_who_is_gone_is_forgotten(site: Site) -> None:
    looks = make()
    site.away = True
    ada = site.socket("ada")
    looks.verify(ada)
    await until(lambda: looks._timers)
    looks.forget(ada)
    assert not any((looks._timers, looks._pauses, looks._doubted, looks._ready))
    bob = site.socket("bob", OUT)
    bob.is_over = True
    looks.verify(bob)
    await until(lambda: not looks._looking)
    assert not bob.looked
    looks.close()
