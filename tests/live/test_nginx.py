"""The nginx of ``docs/howto/proxies.md``, as it stands there, before uvicorn on a Unix socket."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.docs.pages import DOCS, blocks
from tests.kit.ports import free_port
from tests.kit.process import Process
from tests.kit.server import DEADLINE, Server
from tests.kit.waiting import wait_until

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        not (shutil.which("nginx") or os.environ.get("CI")), reason="nginx is missing"
    ),
]

# What the page leaves to Debian's nginx.conf. A folder of this user's is open to no other.
AROUND = """
daemon off;
user {user};
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    {site}
}}
"""


class Site(NamedTuple):
    """uvicorn behind nginx, and how to connect."""

    server: Server
    port: int
    trusts: ssl.SSLContext

    def connect(self, path: str, scheme: str = "https", **headers: str) -> ClientConnection:
        return connect(
            f"wss://127.0.0.1:{self.port}{path}",
            origin=f"{scheme}://127.0.0.1:{self.port}",  # type: ignore[arg-type]
            ssl=self.trusts,
            additional_headers=headers,
            proxy=None,
        )


def configuration(folder: Path, port: int) -> str:
    """The page's own, with the places of a test in it."""
    site, upstream, header = [
        block.text for block in blocks(DOCS / "howto" / "proxies.md") if block.language == "nginx"
    ]
    site = re.sub(r"(?s)upstream mysite \{.*?\}", upstream, site)
    site = re.sub(r"proxy_set_header X-Forwarded-For .*", header, site)
    for there, here in {
        "443": f"127.0.0.1:{port}",
        "/etc/ssl/example.com": f"{folder}/site",
        "/run/mysite": str(folder),
    }.items():
        assert there in site
        site = site.replace(there, here)
    return AROUND.format(folder=folder, site=site, user=pwd.getpwuid(os.getuid()).pw_name)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    certificate = tmp_path / "site.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    files = ["-keyout", tmp_path / "site.key", "-out", certificate]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    port = free_port()
    config = tmp_path / "nginx.conf"
    config.write_text(configuration(tmp_path, port))
    arguments = ["--uds", f"{tmp_path}/web.sock", "--forwarded-allow-ips", "*"]
    with Server(*arguments) as server, Process(["nginx", "-c", config]) as nginx:
        wait_until(lambda: listens(port) or not nginx.alive)
        assert nginx.alive, (tmp_path / "error.log").read_text()
        yield Site(server, port, ssl.create_default_context(cafile=certificate))


def listens(port: int) -> bool:
    with socket.socket() as attempt:
        return not attempt.connect_ex(("127.0.0.1", port))


def test_a_handshake_has_the_scheme_and_the_host_of_the_page(site: Site) -> None:
    with site.connect("/ws/came/") as websocket:
        assert json.loads(websocket.recv()) == ["https", f"127.0.0.1:{site.port}", "127.0.0.1"]


def test_a_client_can_forge_neither_its_address_nor_the_scheme(site: Site) -> None:
    forged = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "http"}
    with site.connect("/ws/came/", **forged) as websocket:
        assert json.loads(websocket.recv()) == ["https", f"127.0.0.1:{site.port}", "127.0.0.1"]


def test_a_page_without_tls_is_denied(site: Site) -> None:
    with pytest.raises(InvalidStatus) as caught:
        site.connect("/ws/came/", scheme="http")
    assert caught.value.response.status_code == 403


def test_the_code_of_a_restart_reaches_the_client(site: Site) -> None:
    with site.connect("/ws/echo/") as websocket:
        websocket.send("hello")
        assert websocket.recv() == "hello"
        site.server.terminate()
        with pytest.raises(ConnectionClosed) as caught:
            websocket.recv(DEADLINE)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1012
    site.server.wait()
