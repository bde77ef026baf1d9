"""A site that reports to Sentry. What it would send is a note instead."""

from __future__ import annotations

import json
from typing import Any

import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.asgi import SentryAsgiMiddleware
from sentry_sdk.transport import Transport

from django_ws_dispatch.asgi import get_asgi_application

from .notes import note

__all__ = ["application", "bare"]


class Notes(Transport):
    """Sends nothing anywhere."""

    def capture_envelope(self, envelope: Envelope) -> None:
        for item in envelope.items:
            note(json.dumps({"kind": item.type, **(item.payload.json or {})}, default=str))


def sample(context: dict[str, Any]) -> float:
    """As on the page."""
    scope = context.get("asgi_scope") or {}
    return 0 if scope.get("type") == "websocket" else 1.0


sentry_sdk.init(
    dsn="http://nobody@127.0.0.1:1/1",
    transport=Notes,
    traces_sampler=sample,
    include_local_variables=False,
    auto_session_tracking=False,
)

bare = get_asgi_application()
application = SentryAsgiMiddleware(bare)
