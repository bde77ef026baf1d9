"""Chains of middleware, and handshakes that go through them."""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from django.http.response import HttpResponseBase

from django_ws_dispatch.handshake.middleware import (
    Chain,
)
from django_ws_dispatch.handshake.request import HandshakeRequest, build_request

HERE = "tests.handshake.middleware_examples"


async def handler(websocket: Any) -> None:
    raise AssertionError("the handler runs after the chain")


def request_for(query: str = "", **headers: str) -> HandshakeRequest:
    return build_request(
        {
            "type": "websocket",
            "path": "/ws/",
            "query_string": query.encode(),
            "headers": [
                (b"host", b"testserver"),
                *(
                    (name.replace("_", "-").encode(), text.encode())
                    for name, text in headers.items()
                ),
            ],
        }
    )


def paths(*names: str) -> list[str]:
    return [name if "." in name else f"{HERE}.{name}" for name in names]


def run(*names: str, query: str = "", **headers: str) -> HttpResponseBase:
    chain = Chain(paths(*names))
    return async_to_sync(chain.run)(request_for(query, **headers), handler)
