"""Python's development mode at half its price; ``tests.settings`` imports it.

There asyncio keeps where each callback comes from, and asks each time whether the files on the way
have changed. It keeps less here, and asks nothing: sources stay what they are while a test runs.
"""

from __future__ import annotations

import asyncio.constants
import linecache

vars(asyncio.constants).update(DEBUG_STACK_DEPTH=2)  # typeshed calls it final
linecache.checkcache = lambda filename=None: None
