"""A session engine that tells of everything that is done to it."""

from __future__ import annotations

from typing import Any

from django.contrib.sessions.backends import cache

from .sockets import note

__all__ = ["SessionStore"]


class SessionStore(cache.SessionStore):
    def __init__(self, session_key: str | None = None) -> None:
        note("session opened")
        super().__init__(session_key)

    def load(self) -> Any:
        note("session loaded")
        return super().load()

    async def aload(self) -> Any:
        note("session loaded")
        return await super().aload()
