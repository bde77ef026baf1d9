"""The broker on a site's own database, on each of those that it knows: ``tox -e databases``."""

__all__ = ["BACKEND", "GROUPS"]

BACKEND = "django_ws_dispatch.brokers.database.DatabaseBroker"

GROUPS = {
    "room:*": {"history": 100_000, "presence": True, "linger": 300},
    "hall:*": {"history": 100_000, "presence": True, "linger": 1},
}
"""as ``WEBSOCKET_GROUPS``; no other group remembers anything"""
