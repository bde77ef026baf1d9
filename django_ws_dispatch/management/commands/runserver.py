"""``manage.py runserver``: Django's own, on uvicorn, for pages and sockets."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser
from django.utils import autoreload
from django.utils.version import get_docs_version

from ...asgi import NoApplication, application_path, leads_to_dispatcher, load_application
from ...routing.routes import current_routes
from ..access_log import AccessLog
from ..protocols import DEFAULT, check_protocol
from ..reload import blaming_modules, run_with_reloader

if TYPE_CHECKING:
    from django.contrib.staticfiles.management.commands.runserver import Command as Base

    from ..server import DevelopmentServer
else:
    app = "contrib.staticfiles" if apps.is_installed("django.contrib.staticfiles") else "core"
    Base = import_module(f"django.{app}.management.commands.runserver").Command


class Command(Base):
    help = "Starts a lightweight web server for development, for pages and WebSockets."

    server: DevelopmentServer | None = None
    ws = DEFAULT
    # Django's, which its stubs do not have.
    addr: str
    _raw_ipv6: bool

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--ws",
            default=DEFAULT,
            metavar="PROTOCOL",
            help="What serves WebSockets, as uvicorn's --ws has it: a name that uvicorn knows "
            "(auto is its own choice), or module:Class. The default is %(default)s.",
        )

    def run(self, **options: Any) -> None:
        self.ws = options["ws"]
        missing = None
        if find_spec("uvicorn") is None:
            missing = "runserver needs uvicorn"
        elif self.ws not in (DEFAULT, "auto"):
            pass  # what that needs, it says itself
        elif find_spec("websockets") is None and find_spec("wsproto") is None:
            missing = "uvicorn needs the package websockets to serve WebSockets"
        if missing is not None:
            raise CommandError(f'{missing}: pip install "django-ws-dispatch[uvicorn]".')
        try:
            check_protocol(self.ws)
        except (ImportError, ValueError) as exc:
            raise CommandError(f"--ws: {exc}") from exc
        if options["use_reloader"]:
            run_with_reloader(self.inner_run, self.stop, **options)
        else:
            self.inner_run(None, **options)

    def inner_run(self, *args: Any, **options: Any) -> None:
        self.server_cls = self.make_server  # type: ignore[assignment]
        autoreload.raise_last_exception()
        with suppress(ImproperlyConfigured), blaming_modules():
            current_routes()  # What else is wrong with a route, the checks say better.
        with blaming_modules():
            # Threads are a matter of WSGI.
            super().inner_run(*args, **{**options, "use_threading": False})

    def make_server(self, *args: Any, **kwargs: Any) -> DevelopmentServer:
        """Django calls it for a server that is bound to an address."""
        from ..server import DevelopmentServer

        self.server = DevelopmentServer(*args, ws=self.ws, **kwargs)
        return self.server

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop()

    def get_handler(self, *args: Any, **options: Any) -> Any:
        """Return the site's ASGI application, behind the static files."""
        try:
            application: Any = load_application()
        except NoApplication as exc:
            raise CommandError(str(exc)) from exc
        self.dispatching = leads_to_dispatcher(application)
        use_static = options.get("use_static_handler", False)
        if use_static and (settings.DEBUG or options["insecure_serving"]):
            from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

            application = ASGIStaticFilesHandler(application)
        return AccessLog(application)

    def on_bind(self, server_port: int) -> None:
        address = f"[{self.addr}]" if self._raw_ipv6 else self.addr
        if self.addr == "0":
            address = "0.0.0.0"
        quit_command = "CTRL-BREAK" if sys.platform == "win32" else "CONTROL-C"
        self.stdout.write(
            f"{datetime.now():%B %d, %Y - %X}\n"
            f"Django version {self.get_version()}, using settings {settings.SETTINGS_MODULE!r}\n"
            "Starting ASGI development server (uvicorn) at "
            f"{self.protocol}://{address}:{server_port}/\n"
            f"{self.sockets_line()}\n"
            f"Quit the server with {quit_command}."
        )
        if os.environ.get("DJANGO_RUNSERVER_HIDE_WARNING") != "true":
            self.stdout.write(
                self.style.WARNING(
                    "WARNING: This is a development server. Do not use it in a production setting. "
                    "Use a production ASGI server instead.\n"
                    "For more information on production servers see: "
                    f"https://docs.djangoproject.com/en/{get_docs_version()}/howto/deployment/"
                )
            )

    def sockets_line(self) -> str:
        if not self.dispatching:
            return f"Serving no WebSockets: {application_path()} is not a WebSocketDispatcher."
        if self.ws == "none":
            return "Serving no WebSockets: --ws is none."
        count = len(current_routes().routes)
        return f"Serving {count} WebSocket route{'' if count == 1 else 's'}."
