"""People log in and out, and change what they are, while broker and database come and go."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.kit.missing import missing
from tests.kit.postgres import find_binaries
from tests.kit.server import ROOT
from tests.kit.valkey import binary

pytestmark = pytest.mark.live


@pytest.fixture
def _programs() -> None:
    pytest.importorskip("psycopg")
    pytest.importorskip("websockets")
    binary()
    if find_binaries() is None:
        missing("PostgreSQL")


@pytest.mark.usefixtures("_programs")
def test_who_is_out_has_no_socket_and_who_is_in_has_all_after_outages_of_all_kinds() -> None:
    command = [sys.executable, "-m", "tests.live.chaos", "--outages", "6", "--users", "8"]
    # A session that is lost with the page that cycled its key has its sockets for 60 s otherwise.
    environment = {**os.environ, "LIVE_PAGE_SECONDS": "10"}
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=900,
    )
    assert not ended.returncode, ended.stdout
