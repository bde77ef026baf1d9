"""The site of the tests of who is here, whose processes say so oftener than others."""

__all__ = ["FASTER", "GROUPS"]

FASTER = 10
"""times"""

GROUPS = {
    "room:*": {"presence": True, "linger": 300},
    "hall:*": {"presence": True, "linger": 1},
}
"""as ``WEBSOCKET_GROUPS``"""
