"""The Django app: what is wired once the models are there."""

from django.apps import AppConfig

__all__ = ["WebSocketDispatchConfig"]


class WebSocketDispatchConfig(AppConfig):
    """Connects the receivers and the checks.

    A site may have a subclass in ``INSTALLED_APPS``, whose ``ready()`` calls this one.

    Attributes:
        is_wired: that has been done. Without it no application is built.
    """

    name = "django_ws_dispatch"
    verbose_name = "WebSockets"
    is_wired = False

    def ready(self) -> None:
        from . import checks
        from .auth import receivers

        checks.register()
        receivers.connect()
        self.is_wired = True
