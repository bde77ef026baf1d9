"""A chromium, two servers of the example site with one broker, and visitors."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.kit.server import TROUBLE
from tests.kit.valkey import Valkey

from .example import Server, Site

if TYPE_CHECKING:
    import playwright.sync_api as play

    from .visitors import Visitor

# Only `tox -e browser` installs it. Elsewhere these are not tests that somebody skipped.
if importlib.util.find_spec("playwright") is None:
    collect_ignore_glob = ["*test_*.py"]  # those in folders below, too

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


# Of the package, not of the session: while Playwright is there it has an event loop running in this
# thread, and the tests after these want their own.
@pytest.fixture(scope="package")
def chromium() -> Iterator[play.Browser]:
    from playwright.sync_api import expect, sync_playwright

    from .visitors import DEADLINE

    path = shutil.which("chromium")
    if path is None:
        (pytest.fail if "CI" in os.environ else pytest.skip)("chromium is not installed")
    expect.set_options(timeout=DEADLINE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=FLAGS,
            ignore_default_args=["--disable-back-forward-cache"],  # people's browsers have one
        )
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def valkey() -> Iterator[Valkey]:
    """The broker of all servers. It has its data on disk before it says so."""
    arguments = ("--appendonly", "yes", "--appendfsync", "always")
    with Valkey(port=None, arguments=arguments) as valkey:
        yield valkey


@pytest.fixture
def forget(valkey: Valkey) -> Callable[[], None]:
    """Return a function that has the broker forget everything."""

    def forget() -> None:
        with redis.Redis.from_url(valkey.url) as client:
            client.flushall()

    return forget


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory, valkey: Valkey) -> Site:
    site = Site(tmp_path_factory.mktemp("example"), valkey.url)
    site.manage("demo")
    return site


@pytest.fixture(scope="package")
def servers(site: Site) -> Iterator[tuple[Server, Server]]:
    both = Server(site.environment), Server(site.environment)
    with ExitStack() as stack:
        for server in both:
            stack.enter_context(server)
        for server in both:
            server.wait_until_ready()
        yield both


@pytest.fixture
def server(servers: tuple[Server, Server]) -> Server:
    return servers[0]


@pytest.fixture(scope="package")
def sessions() -> dict[str, list[Any]]:
    """Cookies of users who have logged in. To hash a password takes a second each time."""
    return {}


@pytest.fixture
def visit(
    chromium: play.Browser, servers: tuple[Server, Server], sessions: dict[str, list[Any]]
) -> Iterator[Callable[..., Visitor]]:
    """Return a function ``(user="", at=<the first server>, **context_options) -> Visitor``.

    The test fails if a visitor's pages log an error, ask another host, or a server logs one.
    """
    from .visitors import Visitor

    visitors: list[Visitor] = []
    said = [len(server.lines) for server in servers]

    def visit(user: str = "", at: Server = servers[0], **options: object) -> Visitor:
        visitor = Visitor(chromium, at, **options)
        visitors.append(visitor)
        if user and user not in sessions:
            visitor.log_in(user)
            sessions[user] = visitor.context.cookies()
        elif user:
            visitor.context.add_cookies(sessions[user])
        return visitor

    yield visit
    for visitor in visitors:
        visitor.context.close()
    problems = [problem for visitor in visitors for problem in visitor.problems]
    for server, already in zip(servers, said, strict=True):
        lines = server.lines[already:]
        if any(TROUBLE.search(line) for line in lines):
            problems.append("".join(lines))
    assert not problems, "\n".join(problems)
