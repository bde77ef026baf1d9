"""What a Redis remembers of a channel: a stream of its entries, and where it stands.

``prefix:{channel}:s`` is the stream; an entry has ``p``, the position before it, ``n``, a mark of
the call that kept it, ``k``, how many orders there were up to and with it, and ``d``, the message.
``prefix:{channel}:t`` has the newest position and the number of orders; it outlives the stream by a
day. Both expire, and both are in one slot of a cluster.

What is written is written by a script; what is read needs none.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, TypeVar

from redis.exceptions import InvalidResponse

from ..history import FORGOTTEN, KEPT, RESET, Entry, Keep, Page, Top, order_of

__all__ = ["Command", "History", "Script", "atake", "take"]

DAY_MS = 86_400_000

Command = tuple[Any, ...]
_T = TypeVar("_T")
Steps = Generator[list[Command], list[Any], _T]

# Numbers have up to 16 digits: "%d" would not do, nor would tostring().
_BEGIN = """
local function number(n) return string.format('%.0f', n) end
local function begin(after)
  local time = redis.call('TIME')
  local epoch = time[1] * 1000000 + time[2]
  if after and epoch <= after then epoch = after + 1 end
  redis.call('DEL', KEYS[1])
  return number(epoch)
end
local function read()
  local top = redis.call('GET', KEYS[2])
  if top then return string.match(top, '^(%d+)%.(%d+)%-(%d+) (%d+)$') end
end
"""

# KEYS: stream, top. ARGV: channel, message, messages to keep, ttl (ms), mark, again, order, head,
# and whether to drop what there is.
_KEEP = (
    _BEGIN
    + """
local epoch, ms, seq, orders = read()
if not epoch then epoch, ms, seq, orders = begin(), '0', '0', '0' end
if ARGV[6] == '1' then
  for _, entry in ipairs(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 64)) do
    if entry[2][4] == ARGV[5] then return epoch .. '.' .. entry[1] end
  end
end
if ARGV[9] == '1' then redis.call('DEL', KEYS[1]) end
local previous = epoch .. '.' .. ms .. '-' .. seq
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local id
if now > tonumber(ms) then id = number(now) .. '-0'
else id = ms .. '-' .. number(tonumber(seq) + 1) end
local position = epoch .. '.' .. id
orders = tonumber(orders) + tonumber(ARGV[7])
redis.call('XADD', KEYS[1], id, 'p', previous, 'n', ARGV[5], 'k', number(orders), 'd', ARGV[2])
local length, most = redis.call('XLEN', KEYS[1]), tonumber(ARGV[3])
if length > most then
  if orders == 0 then
    redis.call('XTRIM', KEYS[1], 'MAXLEN', math.max(most, length - 1000))
  else
    local there
    for _ = 1, 200 do
      local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
      local byte = string.byte(first[2][8], 1)
      local is_order = (byte == 99 or byte == 102) and 1 or 0
      if not there then there = orders - tonumber(first[2][6]) + is_order end
      if length - there <= most and there <= 1000 then break end
      redis.call('XDEL', KEYS[1], first[1])
      length, there = length - 1, there - is_order
    end
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('SET', KEYS[2], position .. ' ' .. number(orders), 'PX', ARGV[4] + 86400000)
redis.call('PUBLISH', ARGV[1], ARGV[8] .. string.char(#previous) .. previous
  .. string.char(#position) .. position .. ARGV[2])
return position
"""
)

# ARGV: ttl (ms) of the top.
_TOP = (
    _BEGIN
    + """
local epoch = read()
if not epoch then redis.call('SET', KEYS[2], begin() .. '.0-0 0', 'PX', ARGV[1]) end
return redis.call('GET', KEYS[2])
"""
)

# ARGV: ttl (ms) of the top, channel, the head of a reset; epoch, ms and seq of a position that was
# heard. Two processes may see it at once: only what is true still is done.
_REWIND = (
    _BEGIN
    + """
local epoch, ms, seq = read()
if epoch == ARGV[4] then
  local function after(m, s, n, t)
    m, s, n, t = tonumber(m), tonumber(s), tonumber(n), tonumber(t)
    return m > n or (m == n and s > t)
  end
  local id = ARGV[5] .. '-' .. ARGV[6]
  local back = after(ARGV[5], ARGV[6], ms, seq)
  if not back and #redis.call('XRANGE', KEYS[1], id, id) == 0 then
    local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
    if first then
      local m, s = string.match(first[1], '^(%d+)-(%d+)$')
      back = after(ARGV[5], ARGV[6], m, s)
    end
  end
  if back then
    redis.call('SET', KEYS[2], begin(tonumber(epoch)) .. '.0-0 0', 'PX', ARGV[1])
    redis.call('PUBLISH', ARGV[2], ARGV[3])
  end
end
return redis.call('GET', KEYS[2])
"""
)


class Script:
    """A script of the server, called by what stands for it; sent where it is not known."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    def call(self, keys: Sequence[bytes], *arguments: Any) -> Command:
        """Return the command that runs it, if the server knows it."""
        return ("EVALSHA", self._sha, len(keys), *keys, *arguments)

    @staticmethod
    def sent(command: Command) -> Command:
        """Return the same command with the script itself."""
        source = next(one._source for one in SCRIPTS if one._sha == command[1])
        return ("EVAL", source, *command[2:])


KEEP, TOP, REWIND = SCRIPTS = Script(_KEEP), Script(_TOP), Script(_REWIND)


class History:
    """The commands on one channel, and what their answers say.

    Args:
        prefix: of the broker's keys, with its colon.
        channel: its name.
        wire: what it is called on the wire.
    """

    def __init__(self, prefix: bytes, channel: str, wire: bytes) -> None:
        escaped = channel.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
        tag = prefix + b"{" + escaped.encode(errors="surrogatepass") + b"}"
        self._keys = (tag + b":s", tag + b":t")
        self._wire = wire

    def keep(self, message: bytes, keep: Keep, *, order: bool) -> tuple[Command, Command]:
        """Return the call that keeps a message, and the one that does unless that has."""
        mark = secrets.token_bytes(9)
        return self._kept(message, keep, mark, order, 0, 0), self._kept(
            message, keep, mark, order, 1, 0
        )

    def forget(self, keep: Keep) -> tuple[Command, Command]:
        """Return the call that drops everything, and the one that does unless that has."""
        mark = secrets.token_bytes(9)
        return self._kept(FORGOTTEN, keep, mark, True, 0, 1), self._kept(
            FORGOTTEN, keep, mark, True, 1, 1
        )

    def _kept(
        self, message: bytes, keep: Keep, mark: bytes, order: bool, again: int, drop: int
    ) -> Command:
        ttl = int(keep.ttl * 1000)
        return KEEP.call(
            self._keys, self._wire, message, keep.messages, ttl, mark, again, int(order), KEPT, drop
        )

    @staticmethod
    def position(answer: Any) -> str:
        """Return what ``keep()`` has answered."""
        if not isinstance(answer, bytes):
            raise InvalidResponse(f"the answer to EVALSHA is {type(answer).__name__} and not bytes")
        return answer.decode()

    # Each yields the commands of a round trip, and gets their answers.

    def read(self, since: str, keep: Keep, count: int, *, heard: bool) -> Steps[Page]:
        """Read behind a position."""
        start = since.partition(".")[2] if order_of(since) else "+"
        stream: Command = ("XRANGE", self._keys[0], start, "+", "COUNT", count + 1)
        answer, rows = yield [self._get(keep), stream]
        top = self.as_top(answer) or (yield from self._begin(keep))
        page = self.page(since, top, rows, count=count, heard=heard)
        if page is None:
            (answer,) = yield [self._rewind(since, keep)]
            page = Page([], self.as_top(answer) or top, known=False)
        return page

    def newest(self, keep: Keep, count: int, before: str | None) -> Steps[Page]:
        """Read backwards."""
        end = "+" if before is None else f"({before.partition('.')[2]}"
        stream: Command = ("XREVRANGE", self._keys[0], end, "-", "COUNT", count)
        answer, rows = yield [self._get(keep), stream]
        top = self.as_top(answer) or (yield from self._begin(keep))
        order = order_of(top.position)
        entries = (_entries(rows, order[0]) if order else None) or []
        return Page(entries[::-1], top, known=True)

    def top(self, keep: Keep) -> Steps[Top]:
        """Read where the channel stands; make a position where there is none."""
        (answer,) = yield [self._get(keep)]
        return self.as_top(answer) or (yield from self._begin(keep))

    def get(self) -> Command:
        """Return the command that reads where the channel stands, and makes nothing."""
        return ("GET", self._keys[1])

    def _get(self, keep: Keep) -> Command:
        return ("GETEX", self._keys[1], "PX", _top_ttl(keep))

    def _begin(self, keep: Keep) -> Steps[Top]:
        (answer,) = yield [TOP.call(self._keys, _top_ttl(keep))]
        if (top := self.as_top(answer)) is None:
            raise InvalidResponse("where a channel stands is no position")
        return top

    def _rewind(self, since: str, keep: Keep) -> Command:
        epoch, ms, seq = order_of(since) or (0, 0, 0)
        return REWIND.call(self._keys, _top_ttl(keep), self._wire, RESET, epoch, ms, seq)

    # What is answered

    @staticmethod
    def as_top(answer: Any) -> Top | None:
        """Return where a channel stands, ``None`` where the store does not know."""
        if answer is None:
            return None
        position, _, orders = bytes(answer).decode().partition(" ")
        if order_of(position) is None or not orders.isdigit():
            return None
        return Top(position, int(orders))

    def page(self, since: str, top: Top, rows: Any, *, count: int, heard: bool) -> Page | None:
        """Return the page behind a position; ``None`` where the store may have gone back."""
        order, here = order_of(since), order_of(top.position)
        if order is None or here is None or order[0] != here[0]:
            return Page([], top, known=False)
        entries = _entries(rows, order[0])
        if entries is None:
            return Page([], top, known=False)
        if entries and entries[0].position == since:
            return Page(entries[1 : count + 1], top, known=True)
        if entries and entries[0].previous == since:
            if heard or entries[0].message != FORGOTTEN:
                return Page(entries[:count], top, known=True)
        elif not entries and since == top.position:
            return Page([], top, known=True)
        return None if heard else Page([], top, known=False)


def _top_ttl(keep: Keep) -> int:
    return int(keep.ttl * 1000) + DAY_MS


def _entries(rows: Any, epoch: int) -> list[Entry] | None:
    """Return what was read, ``None`` where some is of another epoch."""
    entries = []
    for identifier, fields in rows or ():
        previous, message = bytes(fields[1]).decode(), bytes(fields[7])
        if not previous.startswith(f"{epoch}."):
            return None
        entries.append(Entry(f"{epoch}.{bytes(identifier).decode()}", previous, message))
    return entries


def take(steps: Steps[_T], call: Callable[[list[Command]], list[Any]]) -> _T:
    """Take the steps of what is read, in sync code."""
    try:
        commands = next(steps)
        while True:
            commands = steps.send(call(commands))
    except StopIteration as stop:
        result: _T = stop.value
        return result


async def atake(steps: Steps[_T], call: Callable[[list[Command]], Awaitable[list[Any]]]) -> _T:
    """Take the steps of what is read, in an event loop."""
    try:
        commands = next(steps)
        while True:
            commands = steps.send(await call(commands))
    except StopIteration as stop:
        result: _T = stop.value
        return result
