"""A development server that is started anew, and whose fault it is where it can not."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_ws_dispatch.management import reload
from tests.kit.process import Process


def test_the_import_error_behind_a_wrong_route_is_raised_where_a_module_is_to_blame(tmp_path):
    (tmp_path / "module_with_a_mistake.py").write_text("import no_such_module")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        with pytest.raises(ModuleNotFoundError, match="no_such_module"), reload.blaming_modules():
            wrong("module_with_a_mistake.handler")


def test_a_dotted_path_that_is_wrong_stays_a_wrong_setting():
    with pytest.raises(ImproperlyConfigured), reload.blaming_modules():
        wrong("no_such_module.handler")
    with pytest.raises(ImproperlyConfigured), reload.blaming_modules():
        wrong("tests.handlers.nothing")


def wrong(path: str) -> None:
    from django_ws_dispatch.routing.routes import Routes

    Routes({"ws/": path})


class Serving:
    """A process that does not end."""

    def __init__(self, *waits: BaseException) -> None:
        self.waits = iter(waits)
        self.got: list[str] = []

    def wait(self, timeout: float) -> None:
        raise next(self.waits)

    def terminate(self) -> None:
        self.got.append("SIGTERM")

    def kill(self) -> None:
        self.got.append("SIGKILL")


@pytest.mark.parametrize(
    "end", [KeyboardInterrupt(), subprocess.TimeoutExpired("runserver", 1)], ids=["ctrl-c", "time"]
)
def test_a_process_that_does_not_end_is_killed_at_the_next_ctrl_c_or_in_time(end):
    process: Any = Serving(end)
    reload.finish(process)
    assert process.got == ["SIGTERM", "SIGKILL"]


SUPERVISED = """
import sys
from django.utils import autoreload
from django_ws_dispatch.management import reload

autoreload.get_child_arguments = lambda: [sys.executable, "-c", sys.argv[1]]
sys.exit(reload.supervise())
"""


def supervised(child: str, *, after: str | None = None) -> tuple[int, str]:
    """Supervise a program; stop it once it has said ``after``. Return the exit code and the log."""
    with Process([sys.executable, "-c", SUPERVISED, child]) as process:
        if after is not None:
            process.wait_for_log(after)
            process.terminate()
        return process.wait(), process.log


def test_a_process_that_asks_for_another_one_is_started_again(tmp_path):
    child = f"""
import os, sys
from pathlib import Path
runs = Path({str(tmp_path)!r}, "runs")
runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
assert os.environ["RUN_MAIN"] == "true"
sys.exit({reload.RELOAD} if len(runs.read_text()) < 3 else 7)
"""
    assert supervised(child) == (7, "")
    assert (tmp_path / "runs").read_text() == "xxx"


def test_who_is_stopped_stops_the_process_that_serves_and_has_not_failed():
    child = """
import signal, sys, threading
signal.signal(signal.SIGTERM, lambda *args: sys.exit("goodbye"))
print("serving", flush=True)
threading.Event().wait()
"""
    assert supervised(child, after="serving") == (0, "serving\ngoodbye")


def test_a_process_that_hangs_is_ended_in_time():
    program = """
import threading
from django_ws_dispatch.management.reload import exit_within
print("hangs")
exit_within(0.05, 5)
threading.Event().wait()
"""
    with Process([sys.executable, "-c", program]) as process:
        assert process.wait() == 5
        assert process.log == "hangs"


def test_a_process_that_ends_before_is_not_held_up():
    program = "from django_ws_dispatch.management import reload; reload.exit_within(3600, 5)"
    with Process([sys.executable, "-c", program]) as process:
        assert process.wait() == 0
