"""Control messages: what the processes of a site tell each other, through the default broker.

::

    {"session": token, "also": [tokens], "user": pk}   a session has ended: logged out, deleted
    {"changed": [tokens], "to": [keys, sealed]}         a session has another key
    {"where": token}                                    has it? whoever knows says "changed" again
    {"look": [tokens]}                                  its store failed: it may have ended
    {"user": pk}                                        a user was saved or deleted; "*" for all

Each has ``from``, the process that says it, and ``namespace`` where one was active: of a question
that of its socket, and so of the answer. What a process does not know is for newer ones; a message
that makes no sense without it has a ``version`` (``groups/messages.py``).

One that the broker does not take is not lost: a thread tries again until it does. What failed
meanwhile becomes one message that says "verify everybody", so that nothing piles up, but for the
keys of sessions, which nobody could find out.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import os
import secrets
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic, sleep
from typing import Any, NamedTuple

from ..brokers import BaseBroker, get_broker
from ..groups.members import Place
from ..groups.messages import CONTROL_CHANNEL, VERSION, LaterVersion, encode_data
from ..loops import back_off

__all__ = [
    "CONTROL",
    "EVERYBODY",
    "Message",
    "decode",
    "encode",
    "publish_control",
    "send_control",
    "sender",
]

logger = logging.getLogger("django_ws_dispatch.groups")

# Seconds before what failed is tried again, at first and at most.
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 1.0
# Keys of sessions that are kept for a broker that is away.
MOST_KEPT = 10_000

CONTROL = Place(CONTROL_CHANNEL, "default")
"""Where they are heard."""

EVERYBODY = "*"
"""Stands for the primary key of any user."""

# Characters in what a control message says, and how often it says it: some is remembered.
MAX_TEXT = 1000
MAX_TEXTS = 32
# Seconds between two log lines about what is no control message.
COMPLAINTS = 60.0

_START = secrets.token_hex(8)


def sender() -> str:
    """Return what stands for this process in control messages; a fork is another one."""
    return f"{_START}.{os.getpid()}"


def encode(message: Mapping[str, Any]) -> bytes:
    """Return a control message of this process, which it does not act on itself."""
    return json.dumps({**message, "from": sender()}).encode()


class Message(NamedTuple):
    """A control message, read."""

    sessions: tuple[str, ...] = ()
    """tokens of a session that has ended, one for each secret"""
    changed: tuple[tuple[str, str], ...] = ()
    """tokens of a session that has another key, each with that key, sealed"""
    where: str | None = None
    look: tuple[str, ...] = ()
    """tokens of a session whose store failed while it was ended, or given another key"""
    user: str | None = None
    namespace: str | None = None
    sender: str | None = None


def decode(payload: bytes) -> Message | None:
    """Return the control message of this process or another one.

    What a later version says in addition is left out: a site is deployed one process after the
    other.

    Returns:
        ``None`` if no process of this site can have written it, and the log says so, once a minute.

    Raises:
        LaterVersion: only a later version of this package can read it.
    """
    try:
        return _read(json.loads(payload))
    except LaterVersion:
        raise
    except (ValueError, TypeError, RecursionError):
        _complain()
        return None


def _read(found: Any) -> Message:
    if not isinstance(found, dict):
        raise TypeError
    if (version := found.get("version", VERSION)) > VERSION:
        raise LaterVersion(f"a control message, version {version}")
    return Message(
        sessions=(*_texts([found.get("session")]), *_texts(found.get("also"))),
        changed=tuple(zip(_texts(found.get("changed")), _texts(found.get("to")), strict=True)),
        where=_text(found.get("where")),
        look=tuple(_texts(found.get("look"))),
        user=_text(found.get("user")),
        namespace=_text(found.get("namespace")),
        sender=_text(found.get("from")),
    )


def _text(value: Any) -> str | None:
    return next(iter(_texts([value])), None)


def _texts(values: Any) -> list[str]:
    if values is None:
        return []
    if not isinstance(values, list) or len(values) > MAX_TEXTS:
        raise TypeError
    texts = [value for value in values if value is not None]
    if not all(isinstance(text, str) and 1 <= len(text) <= MAX_TEXT for text in texts):
        raise TypeError
    return texts


_complaint_due = float("-inf")


def _complain() -> None:
    global _complaint_due
    now = monotonic()
    if now >= _complaint_due:
        _complaint_due = now + COMPLAINTS
        logger.warning(
            "Ignored a control message that no process of this site can have written: something "
            "else publishes on the control channel of the broker 'default'. Logged once a minute."
        )


async def publish_control(payload: bytes) -> None:
    """Tell every process of the site, this one included, through the default broker.

    Raises:
        BrokerError: the broker did not take it in time.
    """
    await get_broker("default").apublish(CONTROL_CHANNEL, encode_data(payload))


def send_control(message: Mapping[str, Any]) -> None:
    """Tell the other processes, from sync code in any thread, where no loop is blocked.

    Never raises. Where the broker does not take it, it is tried again.
    """
    with suppress(RuntimeError):  # no loop runs here
        asyncio.get_running_loop()
        # Not a task: this loop may be about to end (an async view under WSGI), and not a daemon, so
        # that a command that is about to end still says it. It takes no longer than the time-out.
        try:
            threading.Thread(
                target=_send_control, args=(message,), name="django-ws-dispatch-control"
            ).start()
        except RuntimeError:  # no more threads are to be had
            _send_control(message, later=True)
        return
    _send_control(message)


def _send_control(message: Mapping[str, Any], *, later: bool = False) -> None:
    broker: BaseBroker | None = None
    try:
        broker = get_broker("default")
        if later or _retry.broker is broker:
            # It would only wait for the time-out again.
            _retry.add(broker, message)
            return
        broker.publish(CONTROL_CHANNEL, encode_data(encode(message)))
    except Exception:  # A logout must not fail because of us.
        if broker is None or _retry.add(broker, message):
            logger.exception(
                "Other processes could not be told of a logout or a changed user: until the broker "
                "takes that their sockets stay open. It is tried again; what else fails meanwhile "
                "is not logged."
            )


class _Retry:
    """What the other processes have not been told, and the thread that sees to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._broker: BaseBroker | None = None
        self._failed = False
        self._kept: deque[Mapping[str, Any]] = deque(maxlen=MOST_KEPT)
        self._thread: threading.Thread | None = None

    @property
    def broker(self) -> BaseBroker | None:
        """The one that did not take a message a moment ago."""
        # In a fork the thread of its parent is not alive.
        at_work = self._thread is not None and self._thread.is_alive()
        return self._broker if at_work else None

    def add(self, broker: BaseBroker, message: Mapping[str, Any]) -> bool:
        """Note that ``broker`` did not take a message; ``False`` if it was known to be away."""
        with self._lock:
            away = self.broker
            self._broker, self._failed = broker, True
            if "changed" in message:
                self._kept.append(message)
            if away is None:
                # A daemon: it may take for ever. The processes that are left verify nobody then.
                self._thread = threading.Thread(
                    target=self._run, name="django-ws-dispatch-control-again", daemon=True
                )
                with suppress(RuntimeError):  # This process ends.
                    self._thread.start()
        return away is not broker

    def at_exit(self) -> None:
        """Try once more: the process ends."""
        with self._lock:
            broker = self.broker if self._failed else None
        if broker is not None:
            try:
                self._publish(broker)
            except Exception:
                logger.error(
                    "This process ends, and could not tell others of a logout or a changed user: "
                    "the broker %r is away. They verify every user when they have lost it as well.",
                    broker.alias,
                )

    def _run(self) -> None:
        for pause in back_off(FIRST_PAUSE, LONGEST_PAUSE):
            sleep(pause)
            with self._lock:
                broker, self._failed = self._broker, False
            try:
                told = broker is not None and self._publish(broker)
            except Exception:
                self._failed = True
                logger.debug("Other processes could not be told yet.", exc_info=True)
                continue
            if told:
                logger.warning(
                    "The broker %r takes messages again: other processes verify every user, since "
                    "they could not be told of a logout or a changed user.",
                    broker and broker.alias,
                )
            with self._lock:
                if not self._failed:  # nothing since
                    self._kept.clear()
                    self._thread = None
                    return

    def _publish(self, broker: BaseBroker) -> bool:
        """Tell the other processes; return whether there are any: the setting may have changed."""
        try:
            if get_broker("default") is not broker or broker.in_process:
                return False
        except Exception:  # The setting is wrong now.
            return False
        # Keys first: who verifies a session has to know under which it is found.
        for message in list(self._kept):
            broker.publish(CONTROL_CHANNEL, encode_data(encode(message)))
        broker.publish(CONTROL_CHANNEL, encode_data(encode({"user": EVERYBODY})))
        return True


_retry = _Retry()
atexit.register(_retry.at_exit)
