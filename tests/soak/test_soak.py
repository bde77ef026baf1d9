from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.valkey import binary
from tests.soak.ledger import Ledger, Membership, Message, pack

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("websockets")
    binary()
    return subprocess.run(
        [sys.executable, "-m", "tests.soak", *arguments],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=900,
    )


@pytest.mark.live
@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
def test_a_site_under_churn_keeps_every_promise() -> None:
    ended = run("--seconds", "20", "--clients", "100")
    assert not ended.returncode, ended.stdout


@pytest.mark.live
@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
def test_one_of_a_thousand_deliveries_left_out_is_found() -> None:
    ended = run("--clients", "100", "--leave-out", "1000")
    assert not ended.returncode, ended.stdout


def receive(ledger: Ledger, membership: Membership, *messages: Message) -> None:
    for message in messages:
        text = pack(membership.group, message.id, message.publisher, 10)
        ledger.receive(membership, {}, text)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def membership(ledger: Ledger) -> Membership:
    membership = ledger.join(1, "room")
    membership.joined = ledger.now()
    return membership


def test_the_ledger_takes_what_comes_in_order(ledger: Ledger, membership: Membership) -> None:
    first, second = ledger.begin("room", 2, count=2)
    ledger.acknowledge([first, second])
    receive(ledger, membership, first, second)
    ledger.leave(membership)
    assert ledger.violations == []


def test_the_ledger_misses_a_message(ledger: Ledger, membership: Membership) -> None:
    ledger.acknowledge(ledger.begin("room", 2))
    receive(ledger, membership, *ledger.begin("room", 3))
    ledger.leave(membership)
    assert "no message" in ledger.violations[0]


def test_the_ledger_misses_a_close(ledger: Ledger, membership: Membership) -> None:
    ledger.acknowledge(ledger.begin("room", 2, closes=True))
    receive(ledger, membership, *ledger.begin("room", 3))
    ledger.leave(membership)
    assert "no close" in ledger.violations[0]


def test_the_ledger_sees_what_overtook(ledger: Ledger, membership: Membership) -> None:
    (first,) = ledger.begin("room", 2)
    ledger.acknowledge([first])
    receive(ledger, membership, *ledger.begin("room", 3), first)
    assert "began later" in ledger.violations[0]


def test_the_ledger_sees_a_message_twice(ledger: Ledger, membership: Membership) -> None:
    (message,) = ledger.begin("room", 2)
    last: dict[int, int] = {}
    for _ in range(2):
        ledger.receive(membership, last, pack("room", message.id, 2, 10))
    assert "after" in ledger.violations[0]
