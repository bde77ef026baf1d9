"""Django's autoreloader, with a server that is given the time to say goodbye.

Django kills the process that serves a quarter of a second after Ctrl-C, and that process ends at
once when a file has changed. Here both let the handlers end and the clients hear of it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils import autoreload

__all__ = ["END", "blaming_modules", "exit_within", "run_with_reloader"]

# The exit code that asks for a new process.
RELOAD = 3
# Seconds from the first signal on until a process that serves ends, whatever happens, and until the
# other one stops to wait for it.
END = 4.0
PATIENCE = 6.0


def run_with_reloader(main: Callable[..., None], stop: Callable[[], None], **options: Any) -> None:
    """Run ``main(**options)`` in a process that is started anew when a file changes.

    There it runs in a thread, and ``stop``, called in another one, makes it return.
    """
    if os.environ.get(autoreload.DJANGO_AUTORELOAD_ENV) != "true":
        sys.exit(supervise())
    ending = False

    def leave(*args: object) -> None:
        if not ending:
            sys.exit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as in a script, behind an "&"
            signal.signal(number, leave)
    reloader = autoreload.get_reloader()
    autoreload.logger.info("Watching for file changes with %s", type(reloader).__name__)
    try:
        # Django's run_with_reloader(), but for its handler of SIGTERM.
        autoreload.start_django(reloader, main, **options)
    except SystemExit as exc:
        # The supervisor's signal may be here as well: Ctrl-C does not wake this thread where the
        # system gives it to another one. Python looks for signals at calls: none before this line.
        ending = True
        exit_within(END, RELOAD if exc.code == RELOAD else 0)
        stop()
        raise


def supervise() -> int:
    """Run this command in a process as long as that asks for another one; return its exit code."""
    signal.signal(signal.SIGTERM, lambda *args: sys.exit(0))
    command = autoreload.get_child_arguments()
    environment = {**os.environ, autoreload.DJANGO_AUTORELOAD_ENV: "true"}
    if getattr(sys.stdout, "write_through", False):  # python -u
        environment.setdefault("PYTHONUNBUFFERED", "1")
    while True:
        with subprocess.Popen(command, env=environment, close_fds=False) as process:
            try:
                code = process.wait()
            except (KeyboardInterrupt, SystemExit):
                finish(process)
                return 0
        if code != RELOAD:
            return code


def finish(process: subprocess.Popen[bytes]) -> None:
    """End a process that most likely got the same Ctrl-C."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        process.kill()


@contextmanager
def blaming_modules() -> Iterator[None]:
    """Raise the ``ImportError`` behind an ``ImproperlyConfigured`` where a module of the site is to
    blame.

    The reloader watches the file that the last frame of an exception is in: else nobody would see
    that the module, which was never imported, is corrected.
    """
    try:
        yield
    except ImproperlyConfigured as exc:
        cause: BaseException = exc
        while cause.__cause__ is not None:
            cause = cause.__cause__
        frames = traceback.extract_tb(cause.__traceback__)
        if isinstance(cause, ImportError) and not frames[-1].filename.startswith("<frozen "):
            raise cause from None
        raise


def exit_within(seconds: float, code: int) -> None:
    """End this process if it has not ended by then: a view that sleeps in a thread keeps it."""

    def leave() -> None:
        sys.stdout.flush()
        os._exit(code)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()
