"""The tutorial, done as its page says it: from startproject to two people who talk."""

from __future__ import annotations

import asyncio
import http.cookiejar
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kit.ports import free_port
from tests.kit.process import Process
from tests.kit.waiting import wait_until

from .pages import DOCS, TIMEOUT, Block, Project, blocks

pytestmark = pytest.mark.live

# What the page needs and a test environment has.
DONE_ALREADY = ("python3 -m venv", ". .venv/", "pip install")
PASSWORD = "talk-talk-talk"


class Browser:
    """A session with the site: cookies, pages, sockets."""

    def __init__(self, site: str) -> None:
        self.site = site
        self.cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.cookies)
        )

    def get(self, path: str) -> str:
        with self._opener.open(self.site + path, timeout=TIMEOUT) as response:
            return str(response.read().decode())

    def post(self, path: str, page: str, **fields: str) -> str:
        """Send the form on ``page`` to ``path``."""
        token = re.search('name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert token is not None, page
        data = urllib.parse.urlencode({"csrfmiddlewaretoken": token[1], **fields}).encode()
        request = urllib.request.Request(self.site + path, data, {"Origin": self.site})
        with self._opener.open(request, timeout=TIMEOUT) as response:
            return str(response.read().decode())

    def log_in(self, name: str) -> str:
        """Ask for the room, log in where that leads, and return the room's page."""
        login = self.get("/rooms/lobby/")
        return self.post("/login/?next=/rooms/lobby/", login, username=name, password=PASSWORD)

    def connect(self, page: str) -> Any:
        """Open the socket that the room's page opens."""
        from websockets.asyncio.client import connect

        address = re.search('data-url="([^"]+)"', page)
        assert address is not None, page
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.cookies)
        return connect(
            address[1], origin=self.site, additional_headers={"Cookie": cookies}, proxy=None
        )


@contextmanager
def served(project: Project, command: list[str], port: int) -> Iterator[str]:
    """Run a server of the page; yield its site once it answers."""
    site = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            Browser(site).get("/login/")
        except urllib.error.URLError:
            return not process.alive
        return True

    with Process(command, folder=project.folder, environment=project.environment) as process:
        wait_until(answers, TIMEOUT)
        assert process.alive, process.log
        yield site
        process.interrupt()
        process.wait(TIMEOUT)
    assert "Traceback" not in process.log, process.log


async def next_event(connection: Any) -> dict[str, Any]:
    async with asyncio.timeout(TIMEOUT):
        event: dict[str, Any] = json.loads(await connection.recv())
        return event


async def talk(site: str, text: str) -> None:
    """What the page promises of two browser windows."""
    from websockets.exceptions import InvalidStatus

    stranger, anna, ben = Browser(site), Browser(site), Browser(site)
    room = await asyncio.to_thread(anna.log_in, "anna")
    bens_room = await asyncio.to_thread(ben.log_in, "ben")
    module = re.search('import { connect } from "([^"]+)"', room)
    assert module is not None, room
    assert "export function connect(" in await asyncio.to_thread(stranger.get, module[1])
    with pytest.raises(InvalidStatus) as caught:
        await stranger.connect(room)
    assert caught.value.response.status_code == 401

    async with anna.connect(room) as from_anna, ben.connect(bens_room) as to_ben:
        await from_anna.send(json.dumps({"text": text}))
        for connection in (from_anna, to_ben):
            while (heard := await next_event(connection))["text"] != text:
                pass  # the history
            assert heard["author"] == "anna"
        await to_ben.send(json.dumps(["nonsense"]))
        # A reload has the history.
        async with ben.connect(bens_room) as reloaded:
            texts = []
            while not texts or texts[-1] != text:
                texts.append((await next_event(reloaded))["text"])
        # The logout in one tab reaches the other.
        await asyncio.to_thread(ben.post, "/logout/", bens_room)
        async with asyncio.timeout(TIMEOUT):
            await to_ben.wait_closed()
        assert to_ben.close_code == 4401


class Reader:
    """Somebody who does what the page says, block after block."""

    def __init__(self, folder: Path) -> None:
        self.project = Project(folder, "mysite.settings")
        self.served: list[str] = []

    def follow(self, block: Block) -> None:
        if block.file is not None:
            self.project.write(block)
        elif block.language == "sh":
            for line in block.text.splitlines():
                self.type(line)
        else:
            raise AssertionError(f"line {block.line}: what is to be done with this block?")

    def type(self, line: str) -> None:
        words = line.split()
        if line.startswith(DONE_ALREADY):
            return
        if words[0] == "cd":
            self.project.folder /= words[1]
        elif words[0] == "export":
            name, _, value = words[1].partition("=")
            self.project.environment[name] = value
        elif "runserver" in words or words[0] == "uvicorn":
            port = free_port()
            address = [f"127.0.0.1:{port}"] if "runserver" in words else ["--port", str(port)]
            with served(self.project, [*words, *address], port) as site:
                asyncio.run(talk(site, f"Hello from {words[0]}"))
            self.served.append(words[0])
        else:
            self.project.run(*words)


def test_the_tutorial_works_the_first_time(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    pytest.importorskip("websockets")
    reader = Reader(tmp_path)
    for block in blocks(DOCS / "tutorial.md"):
        reader.follow(block)
    assert reader.served == ["python", "uvicorn"]
