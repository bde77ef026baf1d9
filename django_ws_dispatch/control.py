"""Control messages: what the processes of a site tell each other, through the default broker.

One that the broker does not take is not lost: a thread tries again until it does. What failed
meanwhile becomes one message that says "verify everybody", so that nothing piles up.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import secrets
import threading
import time
from contextlib import suppress
from typing import Any

from .brokers import BaseBroker, get_broker
from .messages import CONTROL_CHANNEL, encode_data

__all__ = ["EVERYBODY", "decode", "encode", "publish_control", "send_control", "sender"]

logger = logging.getLogger("django_ws_dispatch.groups")

# Seconds before what failed is tried again, at first and at most; each pause is cut by up to a
# half, so that the processes of a site do not all come at once.
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 5.0

EVERYBODY = "*"
"""Stands for the primary key of any user."""

# What a control message may say, each of it a str that is not empty.
NAMES = ("session", "user", "from")
# Characters in what stands for a session: it is remembered for a while, and ours has 64.
MAX_TOKEN = 200
# Seconds between two log lines about what is no control message.
COMPLAINTS = 60.0

_START = secrets.token_hex(8)


def sender() -> str:
    """Return what stands for this process in control messages; a fork is another one."""
    return f"{_START}.{os.getpid()}"


def encode(**message: str) -> bytes:
    """Return a control message of this process, which does not heed it itself."""
    return json.dumps({**message, "from": sender()}).encode()


def decode(payload: bytes) -> dict[str, Any] | None:
    """Return the control message of this process or another one.

    What a later version says in addition is left out: a site is deployed one process after the
    other.

    Args:
        payload: whatever came on the control channel.

    Returns:
        What of ``session``, ``user`` and ``from`` it has, each a ``str`` that is not empty; or
        ``None`` if no process of this site can have written it, and the log says so, once a minute.
    """
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError):
        message = None
    if isinstance(message, dict):
        said = {name: message[name] for name in NAMES if message.get(name) is not None}
        if (
            all(isinstance(value, str) and value for value in said.values())
            and len(said.get("session", "")) <= MAX_TOKEN
        ):
            return said
    _complain()
    return None


_complaint_due = float("-inf")


def _complain() -> None:
    global _complaint_due
    now = time.monotonic()
    if now >= _complaint_due:
        _complaint_due = now + COMPLAINTS
        logger.warning(
            "Ignored a control message that no process of this site can have written: something "
            "else publishes on the control channel of the broker 'default'. Logged once a minute."
        )


async def publish_control(payload: bytes) -> None:
    """Tell every process of the site, this one included, through the default broker.

    Args:
        payload: of the control message.

    Raises:
        BrokerError: the broker did not take it in time.
    """
    await get_broker("default").apublish(CONTROL_CHANNEL, encode_data(payload))


def send_control(payload: bytes) -> None:
    """The same from sync code in any thread, where no loop is blocked.

    Never raises. Where the broker does not take it, other processes are told to verify everybody
    once it does.

    Args:
        payload: of the control message.
    """
    with suppress(RuntimeError):  # no loop runs here
        asyncio.get_running_loop()
        # Not a task: this loop may be about to end (an async view under WSGI), and not a daemon, so
        # that a command that is about to end still says it. It takes no longer than the time-out.
        threading.Thread(
            target=_send_control, args=(payload,), name="django-ws-dispatch-control"
        ).start()
        return
    _send_control(payload)


def _send_control(payload: bytes) -> None:
    broker: BaseBroker | None = None
    try:
        broker = get_broker("default")
        broker.publish(CONTROL_CHANNEL, encode_data(payload))
    except Exception:  # A logout must not fail because of us.
        if broker is None or _debt.owe(broker):
            logger.exception(
                "Other processes could not be told of a logout or a changed user: until the broker "
                "takes that their sockets stay open. It is tried again; what else fails meanwhile "
                "is not logged."
            )


class _Debt:
    """What the other processes have not been told, and the thread that sees to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._broker: BaseBroker | None = None
        self._failed = False
        self._thread: threading.Thread | None = None

    def owe(self, broker: BaseBroker) -> bool:
        """Note that ``broker`` did not take a message; ``False`` if one was owed before."""
        with self._lock:
            # In a fork the thread of its parent is not alive.
            at_work = self._thread is not None and self._thread.is_alive()
            known = at_work and self._broker is broker
            self._broker, self._failed = broker, True
            if not at_work:
                # A daemon: it may take for ever. The processes that are left verify nobody then.
                self._thread = threading.Thread(
                    target=self._pay, name="django-ws-dispatch-control-again", daemon=True
                )
                with suppress(RuntimeError):  # This process ends.
                    self._thread.start()
        return not known

    def _pay(self) -> None:
        pause = FIRST_PAUSE
        while True:
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(pause * 2, LONGEST_PAUSE)
            with self._lock:
                broker, self._failed = self._broker, False
            if broker is not None and _reaches_others(broker):
                try:
                    broker.publish(CONTROL_CHANNEL, encode_data(encode(user=EVERYBODY)))
                except Exception:
                    logger.debug("Other processes could not be told yet.", exc_info=True)
                    continue
                logger.warning(
                    "The broker %r takes messages again: other processes verify every user, since "
                    "they could not be told of a logout or a changed user.",
                    broker.alias,
                )
            with self._lock:
                if not self._failed:  # nothing since
                    self._thread = None
                    return


_debt = _Debt()


def _reaches_others(broker: BaseBroker) -> bool:
    """Return whether other processes still hear ``broker``: the setting may have changed."""
    try:
        return get_broker("default") is broker and not broker.in_process
    except Exception:  # The setting is wrong now.
        return False
