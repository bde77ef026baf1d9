"""Clients that vanish and clients that do not read, with the servers' own time-outs.

What that took was watched while the other tests ran: these come last.
"""

from __future__ import annotations

import pytest

from .expectations import SERVERS
from .vanished import EARLY, LATE

pytestmark = [pytest.mark.live, pytest.mark.servers, pytest.mark.parametrize("name", SERVERS)]


def assert_after(seconds: float | None, expected: int | None) -> None:
    """Assert that it came after so many seconds, or did not."""
    if expected is None:
        assert seconds is None
    else:
        assert seconds is not None
        assert expected - EARLY < seconds < expected + LATE


def test_a_client_that_vanished_is_noticed_by_pings(watched, name):
    seen = watched[name].result()
    interval, timeout = SERVERS[name].pings or (None, None)
    assert_after(seen.ping, interval)
    assert_after(seen.vanished, interval and interval + timeout)


def test_a_client_that_does_not_read_is_cut_off(watched, name):
    assert_after(watched[name].result().cut_off, SERVERS[name].cut_off)
