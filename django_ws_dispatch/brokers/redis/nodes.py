"""Where a Redis is, and how to make a connection to it (``LOCATION``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import redis
import redis.asyncio.cluster
import redis.cluster
from redis.asyncio.connection import Connection as AsyncConnection
from redis.asyncio.connection import parse_url as parse_async_url
from redis.connection import parse_url
from redis.exceptions import AskError, ClusterCrossSlotError, NoPermissionError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

__all__ = [
    "ERRORS",
    "Location",
    "Node",
    "SentinelNode",
    "SyncConnection",
    "describe",
]

# What a broker that is away or refuses can do to a client. redis-py's own time-out is a RedisError.
# Of one that speaks garbage anything can come.
ERRORS = (RedisError, OSError, TimeoutError)

# What a node of a cluster says to a URL that names a database.
OF_A_CLUSTER = "not allowed in cluster mode"

# redis-py is annotated in part only.
_parse_url: Callable[[str], dict[str, Any]] = parse_url


def _parser(module: object) -> dict[str, Any]:
    """Return the argument without which an older redis-py names no error of a cluster."""
    parser = getattr(module, "ClusterParser", None)
    return {} if parser is None else {"parser_class": parser}


# 2026: redis-py 5.2 has them, 8.1 has none and needs none.
_PARSER, _ASYNC_PARSER = _parser(redis.cluster), _parser(redis.asyncio.cluster)


def describe(exc: BaseException) -> str:
    """Return what went wrong, for the middle of a sentence."""
    if not isinstance(exc, ERRORS):
        return repr(exc)
    return str(exc).strip().rstrip(".") or type(exc).__name__


# Query arguments of a URL that are for redis-py's pools, which we do not use.
POOL_ARGUMENTS = ("max_connections", "timeout")


class SyncConnection(Protocol):
    """What we use of redis-py's sync connections."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def send_command(self, *args: str | bytes) -> None: ...
    def pack_commands(self, commands: Iterable[tuple[Any, ...]]) -> list[bytes]: ...
    def send_packed_command(self, command: list[bytes]) -> None: ...
    def can_read(self, timeout: float = 0) -> bool: ...
    def read_response(self) -> Any: ...


PASSWORD_RULE = "in a password #, /, ? and @ are percent-encoded: %23, %2F, %3F and %40"


class Location:
    """A parsed URL: the arguments of a sync and of an async connection.

    Raises:
        ValueError: it is not a URL of redis-py; the message has no password in it.
    """

    def __init__(self, url: object) -> None:
        if not isinstance(url, str):
            raise ValueError(f"a URL is a str, not {type(url).__name__}")  # noqa: TRY004
        try:
            parts = urlsplit(url)
            port = parts.port or 6379
        except ValueError:
            # The message has a piece of the URL, perhaps of the password.
            problem = "the port must be a number up to 65535"
            raise ValueError(f"{problem}, and {PASSWORD_RULE}") from None
        behind = parts.path + parts.query.partition("=")[0] + parts.fragment
        if parts.netloc and "@" not in parts.netloc and "@" in behind:
            raise ValueError(PASSWORD_RULE)
        self.has_tls = parts.scheme == "rediss"
        if parts.scheme in ("redis", "rediss"):
            self.name = f"{parts.scheme}://{parts.hostname or 'localhost'}:{port}"
            if parts.path.strip("/") and not parts.path.strip("/").isdigit():
                raise ValueError("the database behind the host is not a number")
        elif parts.scheme == "unix":
            self.name = f"unix://{parts.path}"
            if not parts.path:
                raise ValueError("a unix:// URL needs the path of a socket")
        else:
            # Without a :// it may be the beginning of a password.
            scheme = f"the scheme {parts.scheme!r}" if "://" in url else "its scheme"
            raise ValueError(f"{scheme} is none of redis, rediss and unix")
        try:
            self.arguments: dict[str, Any] = _parse_url(url)
            self.async_arguments: dict[str, Any] = {**parse_async_url(url)}
        except ValueError as exc:
            # It came after one with a piece of the URL.
            raise ValueError(str(exc).rstrip(".")) from None
        for arguments in (self.arguments, self.async_arguments):
            for name in POOL_ARGUMENTS:
                arguments.pop(name, None)


class Node:
    """One server, and further arguments of redis-py's connections to it.

    Raises:
        ValueError: redis-py does not take the arguments. Making the object does not connect.
    """

    in_cluster = False
    """Whether it is spoken to as a node of a cluster."""

    def __init__(self, location: Location, extra: dict[str, Any]) -> None:
        self.name = location.name
        self.channels = ""  # the pattern that fits those of this site
        self._location = location
        self._extra = extra
        try:
            self._connection(1.0, None)
        except (TypeError, ValueError, RedisError) as exc:
            raise ValueError(f"redis-py does not take the arguments of {self.name}: {exc}") from exc

    def why(self, exc: BaseException) -> str:
        """Return what went wrong with this server, for the middle of a sentence."""
        text = describe(exc)
        # What a script may not do is an error of another kind.
        refused = isinstance(exc, NoPermissionError) or "No permissions to" in text
        if self.channels and refused and "channel" in text:
            # Which, the server does not say.
            text += f" (the ACL of its user needs &{self.channels})"
        elif self.channels and refused and "a key" in text:
            text += f" (the ACL of its user needs ~{self.channels})"
        if self.in_cluster:
            if "cluster support disabled" in text:
                text += ' (it is no cluster: leave OPTIONS["cluster"] out)'
            elif "unknown command" in text.lower():
                text += " (a cluster needs Redis 7, or Valkey 7.2)"
        elif isinstance(exc, (AskError, ClusterCrossSlotError)) or OF_A_CLUSTER in text:
            text += ' (it is a node of a cluster: set OPTIONS["cluster"] to True)'
        return text

    def _arguments(
        self, arguments: dict[str, Any], address: dict[str, Any] | None, timeout: float | None
    ) -> dict[str, Any]:
        merged = {**arguments, **self._extra, **(address or {})}
        merged.pop("connection_class", None)
        # The health check of redis-py reads a reply of its own, in the middle of ours.
        merged.update(
            protocol=2,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            health_check_interval=0,
            decode_responses=False,
        )
        return merged

    def _connection(self, timeout: float, address: dict[str, Any] | None) -> Any:
        arguments = {**_PARSER, **self._location.arguments}
        make = arguments.get("connection_class", redis.Connection)
        return make(**self._arguments(arguments, address, timeout))

    def connect(self, timeout: float, address: dict[str, Any] | None = None) -> SyncConnection:
        """Return a connected connection, of which every step takes at most ``timeout`` seconds.

        Args:
            address: of a primary, as a Sentinel has it.

        Raises:
            Exception: there is none to be had; see ``ERRORS``.
        """
        connection: SyncConnection = self._connection(timeout, address)
        try:
            connection.connect()
            if address is not None:
                connection.send_command("ROLE")
                _check_role(connection.read_response())
        except BaseException:
            # What redis-py did not expect leaves the socket open.
            connection.disconnect()
            raise
        return connection

    async def aconnect(self, address: dict[str, Any] | None = None) -> AsyncConnection:
        """See ``connect()``; without time-outs: the caller has one around it."""
        arguments = {**_ASYNC_PARSER, **self._location.async_arguments}
        make: Any = arguments.get("connection_class", AsyncConnection)
        connection = make(**self._arguments(arguments, address, None))
        try:
            await connection.connect()
            if address is not None:
                await connection.send_command("ROLE")
                _check_role(await connection.read_response())
        except BaseException:
            # Cancelled in the handshake, redis-py leaves the transport open.
            await connection.disconnect(nowait=True)
            raise
        return cast(AsyncConnection, connection)


class SentinelNode(Node):
    """The server that Sentinels say is the primary of a service, asked for at each connect.

    Args:
        service: its name.
        sentinels: where they are. The primary is spoken to as they are: with TLS or without.
        extra: further arguments of redis-py's connections to the primary. Those of TLS are for the
            Sentinels too, and those in the Sentinels' URLs for the primary: it is one CA as a rule.
            What is written for one of them counts there. Users and passwords stay where they are.
    """

    def __init__(self, service: str, sentinels: list[Location], extra: dict[str, Any]) -> None:
        self._sentinels = [
            Node(one, {**_tls(extra), **_tls(one.arguments)} if one.has_tls else {})
            for one in sentinels
        ]
        bare = Location(f"{sentinels[0].name.partition(':')[0]}://")
        of_urls: dict[str, Any] = {}
        if bare.has_tls:
            for one in reversed(sentinels):  # the first one counts
                of_urls.update(_tls(one.arguments))
        super().__init__(bare, {**of_urls, **extra})
        self._question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
        self.name = f"{service} of {', '.join(one.name for one in sentinels)}"

    def connect(self, timeout: float, address: dict[str, Any] | None = None) -> SyncConnection:
        timeout /= len(self._sentinels)
        errors = []
        for sentinel in self._sentinels:
            try:
                connection = sentinel.connect(timeout)
                try:
                    connection.send_command(*self._question)
                    answer = connection.read_response()
                finally:
                    connection.disconnect()
                return super().connect(timeout, _address(answer))
            except Exception as exc:
                errors.append(f"{sentinel.name}: {describe(exc)}")
        raise RedisConnectionError(f"No primary found ({'; '.join(errors)})")

    async def aconnect(self, address: dict[str, Any] | None = None) -> AsyncConnection:
        errors = []
        for sentinel in self._sentinels:
            try:
                connection = await sentinel.aconnect()
                try:
                    await connection.send_command(*self._question)
                    answer = await connection.read_response()
                finally:
                    await connection.disconnect(nowait=True)
                return await super().aconnect(_address(answer))
            except Exception as exc:
                errors.append(f"{sentinel.name}: {describe(exc)}")
        raise RedisConnectionError(f"No primary found ({'; '.join(errors)})")


def _tls(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name.startswith("ssl_")}


def _address(answer: Any) -> dict[str, Any]:
    if not answer:
        raise RedisConnectionError("it does not know the service")
    return {"host": answer[0].decode(), "port": int(answer[1])}


def _check_role(answer: Any) -> None:
    # A Sentinel may be behind; what is published to a replica reaches nobody.
    if answer[0] != b"master":
        raise RedisConnectionError("what it calls the primary is not one")
