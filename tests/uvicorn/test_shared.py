"""What connections of one server share, and those of another one do not."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from uvicorn.server import ServerState

from django_ws_dispatch.uvicorn.shared import Shared, shared_of

from .wire import config_of, echo

pytestmark = pytest.mark.asyncio


async def test_all_connections_of_a_server_share_one():
    loop = asyncio.get_running_loop()
    config, state = config_of(echo, root_path="/site", ws_max_size=1000), ServerState()
    shared = shared_of(config, state, loop)
    assert shared_of(config, state, loop) is shared
    assert shared.app is config.loaded_app
    assert shared.loop is loop
    assert shared.max_size == 1000
    assert shared.root_path == "/site"
    assert shared.asgi_version == "3.0"


async def test_another_server_has_its_own_also_with_the_same_config():
    loop = asyncio.get_running_loop()
    config, first, second = config_of(echo), ServerState(), ServerState()
    assert shared_of(config, first, loop) is not shared_of(config, second, loop)


async def test_another_loop_has_its_own():
    config, state = config_of(echo), ServerState()

    async def get() -> Shared:
        return shared_of(config, state, asyncio.get_running_loop())

    shared = await get()
    other = await asyncio.to_thread(asyncio.run, get())
    assert other is not shared
    assert other.loop is not shared.loop


async def test_an_application_that_was_loaded_anew_has_its_own():
    loop = asyncio.get_running_loop()
    config, state = config_of(echo), ServerState()
    shared = shared_of(config, state, loop)
    config.loaded_app = lambda scope, receive, send: echo(scope, receive, send)
    again = shared_of(config, state, loop)
    assert again is not shared
    assert again.app is config.loaded_app


@pytest.mark.parametrize("deflate", [True, False])
async def test_its_memory_offers_what_the_server_is_told_to(deflate):
    config = config_of(echo, ws_per_message_deflate=deflate)
    shared = shared_of(config, ServerState(), asyncio.get_running_loop())
    assert bool(shared.memory.core().available_extensions) is deflate
    assert shared.memory.core().max_message_size == config.ws_max_size


async def test_a_server_that_is_gone_is_forgotten():
    state = ServerState()
    shared = weakref.ref(shared_of(config_of(echo), state, asyncio.get_running_loop()))
    del state
    gc.collect()
    assert shared() is None
