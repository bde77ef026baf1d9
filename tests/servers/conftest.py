"""One server process of each kind for most tests; a test that stops it starts its own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from .expectations import SERVERS, Expected
from .processes import AnyServer
from .vanished import Watched, watch

# Only `tox -e servers` installs all of them. Elsewhere these are not tests that somebody skipped.
if any(importlib.util.find_spec(one.package or one.name) is None for one in SERVERS.values()):
    collect_ignore = [
        f"test_{name}.py"
        for name in ("bare", "disconnects", "ends", "life", "limits", "site", "vanished", "wrapped")
    ]


@pytest.fixture(scope="session", params=SERVERS)
def expected(request: pytest.FixtureRequest) -> Expected:
    """What the server of this test can do."""
    return SERVERS[request.param]


@pytest.fixture(scope="session")
def shared(expected: Expected) -> Iterator[AnyServer]:
    with AnyServer(expected.name) as process:
        yield process


@pytest.fixture
def server(shared: AnyServer) -> Iterator[AnyServer]:
    """A server that other tests use too. What this test makes it log is checked."""
    yield shared
    shared.check()
    assert shared.alive


@pytest.fixture(scope="session")
def watched() -> Iterator[dict[str, Future[Watched]]]:
    """What takes a minute: all servers at once, while the other tests run."""
    with ThreadPoolExecutor(len(SERVERS)) as pool:
        yield {name: pool.submit(watch, name) for name in SERVERS}


@pytest.fixture(scope="session", autouse=True)
def begin_early(request: pytest.FixtureRequest) -> None:
    """Start what takes a minute with the first test."""
    if any("watched" in item.fixturenames for item in request.session.items):
        request.getfixturevalue("watched")


@pytest.fixture
def start(expected: Expected) -> Iterator[Callable[..., AnyServer]]:
    """Start a server for this test alone; Django's settings are named arguments."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(AnyServer(expected.name, **settings))
