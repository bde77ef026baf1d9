"""The servers that these tests run on come back with what they had."""

from __future__ import annotations

import signal

import pytest

from tests.kit.database import DatabaseServer

pytestmark = [pytest.mark.live, pytest.mark.databases]


@pytest.fixture(params=["postgres", "mariadb"])
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    found: DatabaseServer = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("how", [None, signal.SIGQUIT, signal.SIGKILL], ids=str)
def test_what_was_committed_outlives_every_end_of_the_server(
    server: DatabaseServer, how: signal.Signals | None
) -> None:
    with server.database("outlives"):
        assert server.sessions("outlives") == 0
        server.ask("CREATE TABLE numbers (number INTEGER)", database="outlives")
        for number in range(10):
            server.ask("INSERT INTO numbers VALUES (%s)", number, database="outlives")
        connected = server.connect("outlives")
        assert server.sessions("outlives") == 1
        server.restart(how)
        assert server.ask("SELECT count(*) FROM numbers", database="outlives") == [(10,)]
        connected.close()
