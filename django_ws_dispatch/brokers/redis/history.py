"""What a Redis server remembers of a channel: a stream, and a string that says where it stands.

Entries of the stream ``...:s``: ``p`` the position before, ``n`` what the caller calls it (``o``
stands before it if it is an order), ``k`` how many orders there were up to it, ``d`` the message.
The string ``...:t`` is ``position orders``. It outlives the stream, so that a position that is
read again is known to be the newest. Where it is lost, a new epoch begins.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeAlias, TypeVar

from redis.exceptions import InvalidResponse

from ..history import FORGOTTEN, KEPT, RESET, Entry, Keep, Page, Top, order_of
from .calls import Call, Script

__all__ = ["History", "Steps"]

T = TypeVar("T")

Steps: TypeAlias = Generator[Call, Any, T]
"""Yields calls, gets their answers, returns what came out: sync and async code drive it."""

DAY = 86_400_000
# Beyond it a number is no part of the id of an entry.
MOST_ID = 2**64 - 1

# The first write is SET: once a script has written, the server refuses it nothing for want of
# memory, not even where that first write was a DEL of nothing.
_HEAD = """
local time = redis.call('TIME')
local us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local value = redis.call('GET', KEYS[2])
local epoch, last, seq, orders
if value then
  epoch, last, seq, orders = string.match(value, '^(%d+)%.(%d+)%-(%d+) (%d+)$')
end
local fresh = not epoch
if fresh then epoch, last, seq, orders = string.format('%.0f', us), '0', '0', '0' end
"""

# KEYS: stream, top. ARGV: channel, message, count, ttl, nonce, retry, order, head, forget.
KEEP = Script(
    _HEAD
    + """
local before = epoch .. '.' .. last .. '-' .. seq
if ARGV[6] == '1' and not fresh then
  for _, entry in ipairs(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 64)) do
    if entry[2][4] == ARGV[5] then return epoch .. '.' .. entry[1] end
  end
end
last, seq, orders = tonumber(last), tonumber(seq), tonumber(orders)
local ms = math.floor(us / 1000)
if ms > last then seq = 0 else ms, seq = last, seq + 1 end
if ARGV[7] == '1' then orders = orders + 1 end
local id = string.format('%.0f-%.0f', ms, seq)
local position = epoch .. '.' .. id
local count, ttl = tonumber(ARGV[3]), tonumber(ARGV[4])
local sum = string.format('%.0f', orders)
redis.call('SET', KEYS[2], position .. ' ' .. sum, 'PX', string.format('%.0f', ttl + 86400000))
if fresh or ARGV[9] == '1' then redis.call('DEL', KEYS[1]) end
local length = redis.call('XLEN', KEYS[1]) + 1
if orders == 0 then
  -- Of a limit that was lowered, a part at a time.
  redis.call('XADD', KEYS[1], 'MAXLEN', string.format('%.0f', math.max(count, length - 1000)),
    id, 'p', before, 'n', ARGV[5], 'k', sum, 'd', ARGV[2])
else
  redis.call('XADD', KEYS[1], id, 'p', before, 'n', ARGV[5], 'k', sum, 'd', ARGV[2])
  local function is_order(entry)
    return string.sub(entry[2][4], 1, 1) == 'o' and 1 or 0
  end
  local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  local within = orders - tonumber(first[2][6]) + is_order(first)
  local dropped = 0
  while dropped < 200 and (length - within > count or within > 1000) do
    redis.call('XDEL', KEYS[1], first[1])
    dropped, length, within = dropped + 1, length - 1, within - is_order(first)
    first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PUBLISH', ARGV[1], ARGV[8] .. string.char(#before) .. before
  .. string.char(#position) .. position .. ARGV[2])
return position
"""
)

# KEYS: stream, top. ARGV: milliseconds for which the top is kept.
BEGIN = Script(
    _HEAD
    + """
if not fresh then return value end
redis.call('SET', KEYS[2], epoch .. '.0-0 0', 'PX', ARGV[1])
redis.call('DEL', KEYS[1])
return epoch .. '.0-0 0'
"""
)

# KEYS: stream, top. ARGV: for the top, channel, RESET, and epoch, ms and seq of what was heard.
REWIND = Script(
    _HEAD
    + """
if fresh or epoch ~= ARGV[4] then return value end
last, seq = tonumber(last), tonumber(seq)
local ms, number = tonumber(ARGV[5]), tonumber(ARGV[6])
if ms == last and number == seq then return value end
if ms < last or (ms == last and number < seq) then
  -- What is dropped is dropped from its beginning.
  local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  if not first then return value end
  local first_ms, first_seq = string.match(first[1], '^(%d+)%-(%d+)$')
  first_ms, first_seq = tonumber(first_ms), tonumber(first_seq)
  if ms < first_ms or (ms == first_ms and number < first_seq) then return value end
  local id = ARGV[5] .. '-' .. ARGV[6]
  if #redis.call('XRANGE', KEYS[1], id, id) > 0 then return value end
end
value = string.format('%.0f', math.max(us, tonumber(epoch) + 1)) .. '.0-0 0'
redis.call('SET', KEYS[2], value, 'PX', ARGV[1])
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return value
"""
)


class History:
    """The keys, the arguments and the answers; makes no call itself.

    Args:
        key: says what the keys of a channel begin with, up to its hash tag and a colon.
        name: says under which name a channel is published.
    """

    def __init__(self, key: Callable[[str], bytes], name: Callable[[str], bytes]) -> None:
        self._key = key
        self._name = name

    def keys(self, channel: str) -> tuple[bytes, bytes]:
        """Return the keys of the stream and of the top, in one slot of a cluster."""
        key = self._key(channel)
        return key + b"s", key + b"t"

    def _script(self, script: Script, channel: str, *arguments: Any) -> tuple[Any, ...]:
        return (script, 2, *self.keys(channel), *arguments)

    def keep(
        self, channel: str, message: bytes, keep: Keep, order: bool, forget: bool = False
    ) -> Steps[str]:
        nonce = (b"o" if order else b"m") + os.urandom(12)

        def command(retry: int) -> tuple[Any, ...]:
            return self._script(
                KEEP,
                channel,
                self._name(channel),
                message,
                keep.messages,
                _ms(keep),
                nonce,
                retry,
                int(order),
                KEPT,
                int(forget),
            )

        position: str = yield Call([command(0)], _position, [command(1)], "take a message")
        return position

    def forget(self, channel: str, keep: Keep) -> Steps[str]:
        return self.keep(channel, FORGOTTEN, keep, order=True, forget=True)

    def top(self, channel: str, keep: Keep) -> Steps[Top]:
        top: Top | None = yield Call([self._getex(channel, keep)], lambda answers: _top(answers[0]))
        return top or (yield from self._begin(channel, keep))

    def _getex(self, channel: str, keep: Keep) -> tuple[Any, ...]:
        return ("GETEX", self.keys(channel)[1], "PX", _ms(keep) + DAY)

    def _begin(self, channel: str, keep: Keep) -> Steps[Top]:
        command = self._script(BEGIN, channel, _ms(keep) + DAY)
        top: Top = yield Call([command], _certain_top)
        return top

    def read(self, channel: str, since: str, keep: Keep, count: int, heard: bool) -> Steps[Page]:
        parts = _parts(since)
        if parts is None:
            return Page([], (yield from self.top(channel, keep)), False)
        epoch, ms, seq = parts
        stream = self.keys(channel)[0]
        rows = ("XRANGE", stream, f"{ms}-{seq}", "+", "COUNT", count + 1)
        top, entries = yield Call([self._getex(channel, keep), rows], _top_and_entries)
        if top is None:
            return Page([], (yield from self._begin(channel, keep)), False)
        if _epoch(top.position) != epoch:
            return Page([], top, False)
        if all(_epoch(entry.previous) == epoch for entry in entries):
            if entries and entries[0].position == since:
                return Page(entries[1:], top, True)
            if not entries and since == top.position:
                return Page([], top, True)
            if entries and entries[0].previous == since:
                if heard or not entries[0].message.startswith(FORGOTTEN):
                    return Page(entries[:count], top, True)
                return Page([], top, False)
        if heard:
            name = self._name(channel)
            arguments = (_ms(keep) + DAY, name, RESET, epoch, ms, seq)
            again = yield Call([self._script(REWIND, channel, *arguments)], _maybe_top)
            top = again or (yield from self._begin(channel, keep))
        return Page([], top, False)

    def newest(self, channel: str, keep: Keep, count: int, before: str | None) -> Steps[Page]:
        end = "+"
        if before is not None:
            parts = _parts(before)
            if parts is None or parts[1:] == (0, 0):
                return Page([], (yield from self.top(channel, keep)), True)
            end = f"({parts[1]}-{parts[2]}"
        rows = ("XREVRANGE", self.keys(channel)[0], end, "-", "COUNT", count)
        top, entries = yield Call([self._getex(channel, keep), rows], _top_and_entries)
        if top is None:
            return Page([], (yield from self._begin(channel, keep)), True)
        epoch = _epoch(top.position)
        if before is not None and _epoch(before) != epoch:
            return Page([], top, True)
        return Page([one for one in reversed(entries) if _epoch(one.previous) == epoch], top, True)

    def tops(self, channels: Sequence[str]) -> Steps[list[Top | None]]:
        keys = [self.keys(channel)[1] for channel in channels]

        def tops(answers: list[Any]) -> list[Top | None]:
            if not isinstance(answers[0], list) or len(answers[0]) != len(keys):
                raise InvalidResponse("the answer to MGET is no list of that length")
            return [_top(one) for one in answers[0]]

        found: list[Top | None] = yield Call([("MGET", *keys)], tops)
        return found


def _ms(keep: Keep) -> int:
    return max(math.ceil(keep.ttl * 1000), 1)


def _parts(position: str) -> tuple[int, int, int] | None:
    parts = order_of(position)
    return parts if parts is not None and max(parts) <= MOST_ID else None


def _epoch(position: str) -> int:
    return (order_of(position) or (-1,))[0]


def _position(answers: list[Any]) -> str:
    (answer,) = answers
    if not isinstance(answer, bytes) or order_of(position := answer.decode("ascii")) is None:
        raise InvalidResponse("the answer is no position")
    return position


def _top(answer: Any) -> Top | None:
    """Of what is not ours it says nothing, as the scripts do."""
    if answer is None:
        return None
    if not isinstance(answer, bytes):
        raise InvalidResponse(f"the answer is {type(answer).__name__} and not bytes")
    position, _, orders = answer.decode("ascii", "replace").partition(" ")
    if order_of(position) is None or not (orders.isascii() and orders.isdigit()):
        return None
    return Top(position, int(orders))


def _maybe_top(answers: list[Any]) -> Top | None:
    # A script's false is nil.
    return _top(answers[0])


def _certain_top(answers: list[Any]) -> Top:
    top = _top(answers[0])
    if top is None:
        raise InvalidResponse("the answer is no position")
    return top


def _top_and_entries(answers: list[Any]) -> tuple[Top | None, list[Entry]]:
    value, rows = answers
    entries = []
    for entry_id, fields in rows or ():
        named = dict(zip(fields[::2], fields[1::2], strict=True))
        previous = named[b"p"].decode("ascii")
        position = f"{previous.partition('.')[0]}.{entry_id.decode('ascii')}"
        entries.append(Entry(position, previous, named[b"d"]))
    return _top(value), entries
