"""The Django app: what is wired once the models are there."""

from django.apps import AppConfig

__all__ = ["WebSocketDispatchConfig"]


class WebSocketDispatchConfig(AppConfig):
    """Connects the receivers and the checks."""

    name = "django_ws_dispatch"
    verbose_name = "WebSockets"

    def ready(self) -> None:
        from . import checks
        from .auth import receivers

        checks.register()
        receivers.connect()
