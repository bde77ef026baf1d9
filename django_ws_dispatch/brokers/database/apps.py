"""The Django app that brings the tables of the database broker."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["DatabaseBrokerConfig"]


class DatabaseBrokerConfig(AppConfig):
    """Brings the tables, and the checks of whoever runs them with ``--database``."""

    name = "django_ws_dispatch.brokers.database"
    label = "django_ws_dispatch_database"
    verbose_name = "WebSocket broker"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks

        checks.register()
