"""Event loops for the tests of the test client."""

import asyncio

from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.groups import members as registry


def run(test):
    """Run a coroutine function as a test of its own loop, and see that nothing is left in it."""

    async def checked():
        before = asyncio.all_tasks()
        await test()
        assert asyncio.all_tasks() == before
        assert connections.local.pop() is None
        assert registry.local.pop() is None
        loop = asyncio.get_running_loop()
        assert not [handle for handle in loop._scheduled if not handle.cancelled()]

    def test_without_a_loop():
        asyncio.run(checked())

    test_without_a_loop.__name__ = test.__name__
    return test_without_a_loop
