"""The site of the tests of ``django-ws-dispatch.v1``, and a client that shares no code with it."""

__all__ = ["GROUPS"]

GROUPS = {
    "room:*": {"history": 5000, "presence": True, "linger": 0},
    "hall:*": {"presence": True, "linger": 0},
    "pair:*": {"presence": 2, "linger": 0},
    "news:*": {"history": 5},
    "8": {"history": 20},
    "<user>": {"history": 20},
}
"""as ``WEBSOCKET_GROUPS``"""
