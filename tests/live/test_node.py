"""Node's ``ws``, which shares no code with the server, speaks with the site."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.kit.missing import missing
from tests.kit.server import Server
from tests.kit.waiting import DEADLINE

pytestmark = pytest.mark.live

SCRIPT = """
const WebSocket = require("ws");
const socket = new WebSocket(process.argv[1], JSON.parse(process.argv[2]));
const seen = {messages: []};
socket.on("upgrade", (response) => { seen.status = response.statusCode; });
socket.on("unexpected-response", (_, response) => {
  let body = "";
  response.on("data", (part) => { body += part; });
  response.on("end", () => {
    console.log(JSON.stringify({
      status: response.statusCode, body, cookies: response.headers["set-cookie"],
    }));
    process.exit(0);
  });
});
const messages = JSON.parse(process.argv[3]);
socket.on("open", () => messages.forEach((message) => socket.send(message)));
socket.on("message", (data, binary) => {
  seen.messages.push(binary ? [...data] : data.toString());
  if (messages.length && seen.messages.length === messages.length) socket.close(4321, "bye");
});
socket.on("close", (code, reason) => {
  console.log(JSON.stringify({
    ...seen, code, reason: reason.toString(), protocol: socket.protocol,
  }));
});
"""


@pytest.fixture(scope="module")
def modules():
    """The folder that Node finds ``ws`` in: ``NODE_PATH``, or one where npm installs it once."""
    if shutil.which("node") is None:
        missing("node")
    given = os.environ.get("NODE_PATH")
    if given and (Path(given) / "ws").is_dir():
        return given
    if shutil.which("npm") is None:
        missing("npm")
    folder = Path(tempfile.gettempdir()) / "django-ws-dispatch-node"
    found = folder / "node_modules"
    if not (found / "ws" / "package.json").exists():
        folder.mkdir(exist_ok=True)
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-save"]
        command += ["--no-package-lock", "--prefix", str(folder), "ws"]
        if subprocess.run(command, timeout=120, check=False).returncode:
            missing("npm's ws")
    return str(found)


@pytest.fixture(scope="module")
def server():
    with Server() as server:
        yield server


@pytest.fixture
def speak(modules, server):
    def run(path, messages=(), protocols=()):
        arguments = [server.url + path, json.dumps(protocols), json.dumps(messages)]
        done = subprocess.run(
            ["node", "-e", SCRIPT, *arguments],
            env={**os.environ, "NODE_PATH": modules},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=True,
        )
        return json.loads(done.stdout)

    yield run
    server.check()


@pytest.mark.parametrize("prefix", ["", "raw-"], ids=["websocket", "raw"])
def test_ping_is_answered_with_pong(speak, prefix):
    seen = speak(f"/ws/{prefix}ping/", ["ping"])
    assert (seen["status"], seen["messages"], seen["code"]) == (101, ["pong!"], 4321)


def test_messages_come_back_in_order_and_the_handler_learns_the_code(speak, server):
    messages = ["", "€", *(str(number) * 100 for number in range(100))]
    assert speak("/ws/echo/", messages)["messages"] == messages
    server.wait_for_notes("echo 4321")


def test_the_subprotocol_is_chosen(speak):
    assert speak("/ws/echo/", ["x"], ["v3", "v2"])["protocol"] == "v2"


def test_the_end_of_a_handler_is_its_close_code(speak):
    assert speak("/ws/ends/open-404/")["code"] == 4404
    seen = speak("/ws/closes/")
    assert (seen["code"], seen["reason"]) == (4000, "é" * 61)


def test_a_denial_is_a_response_with_its_body_and_cookies(speak):
    seen = speak("/ws/ends/shut-deny/")
    assert (seen["status"], seen["body"]) == (418, "a teapot")
    assert sorted(cookie.split("=")[0] for cookie in seen["cookies"]) == ["milk", "sugar"]
