"""The ASGI application: one scope type each to Django, to the lifespan, to a handler."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable
from functools import cached_property

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.urls import set_script_prefix

from .. import lanes
from ..brokers import get_broker
from ..conf import SETTINGS, conf
from ..groups import group
from ..groups.namespaces import load_namespace
from ..groups.options import load_groups
from ..handshake.allowed import load_allowed_origins
from ..handshake.middleware import Chain
from ..handshake.origin import OriginCheck, Refusal
from ..routing.routes import Routes, current_routes
from ..typing import ASGIApplication, Receive, Scope, Send
from ..websockets import WebSocket
from ..websockets.connection import Connection
from . import sweep
from .admission import Admission
from .endings import fail, finish, refuse
from .lifespan import Lifespan, load_lifespan

__all__ = ["WebSocketDispatcher"]

APP = "django_ws_dispatch"


class Site:
    """Everything that is built from the settings; ``ImproperlyConfigured`` where one is wrong."""

    def __init__(self) -> None:
        require_app()
        for name in SETTINGS:
            getattr(conf, name)
        self.routes: Routes = current_routes()
        self.routes.learn_languages()
        self.origins = OriginCheck(load_allowed_origins())
        self.chain = Chain(conf.middleware, self.routes.urlconf) if conf.middleware else None
        self.max_connections = conf.max_connections
        self.drain = conf.drain
        self.script_name = settings.FORCE_SCRIPT_NAME
        self.namespace = load_namespace()
        load_groups()
        self.plain = self.chain is None and self.namespace is None
        lanes.load_sync_context()
        for alias in conf.brokers:
            get_broker(alias)


def require_app() -> None:
    """Raise ``ImproperlyConfigured`` rather than serve sockets that nobody would close."""
    if not apps.ready:
        raise ImproperlyConfigured(
            "The apps are not loaded yet: call django.setup() before WebSocketDispatcher(), or "
            "get_asgi_application() of django_ws_dispatch.asgi instead."
        )
    config = next((one for one in apps.get_app_configs() if one.name == APP), None)
    if getattr(config, "is_wired", False):
        return
    problem, remedy = f'"{APP}" is not in INSTALLED_APPS.', ""
    if config is not None:
        name = type(config).__qualname__
        problem = f"{name}, the app config of {APP} in INSTALLED_APPS, has connected nothing."
        remedy = f" Or derive {name} from WebSocketDispatchConfig, and call super().ready()."
    raise ImproperlyConfigured(
        f'{problem} Write INSTALLED_APPS = ["{APP}", ...]: its receivers close the sockets of who '
        f"logs out, and its checks are run.{remedy}"
    )


class WebSocketDispatcher:
    """The ASGI 3 application of a site with sockets.

    ``get_asgi_application()`` builds it. Who does so directly calls ``django.setup()`` before.

    Args:
        http_application: gets every ``http`` scope, with the very same scope, receive and send.

    Raises:
        ImproperlyConfigured: ``"django_ws_dispatch"`` is not in ``INSTALLED_APPS``, the apps are
            not loaded, or a ``WEBSOCKET_...`` setting is wrong.
    """

    def __init__(self, http_application: ASGIApplication) -> None:
        self.http_application = http_application
        self.site, self.lifespan = Site(), Lifespan(load_lifespan())
        self._page: ASGIApplication = self._first_page
        setting_changed.connect(self._forget)

    def _forget(self, *, setting: str, **kwargs: object) -> None:
        self.__dict__.pop("site", None)
        if setting == "WEBSOCKET_LIFESPAN":
            self.__dict__.pop("lifespan", None)

    @cached_property
    def site(self) -> Site:
        """What the settings say now."""
        return Site()

    @cached_property
    def lifespan(self) -> Lifespan:
        """The life of this process."""
        return Lifespan(load_lifespan())

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # No coroutine of its own: a page pays for no more than this call.
        if scope["type"] == "http":
            return self._page(scope, receive, send)
        return self._serve(scope, receive, send)

    # Servers ask whether it is a coroutine function, to tell ASGI 3 from what was before it.
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(__call__)
    else:
        _call = __call__

        async def __call__(  # type: ignore[misc]
            self, scope: Scope, receive: Receive, send: Send
        ) -> None:
            await self._call(scope, receive, send)

    def _first_page(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # Not when it is made: checks import asgi.py in every management command.
        group.mark_dispatching()
        self._page = self.http_application
        return self._page(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """All but pages."""
        if group.unheard:
            group.mark_dispatching()
        kind = scope["type"]
        if kind == "lifespan":
            await self.lifespan(scope, receive, send)
            return
        if kind != "websocket":
            raise ValueError(
                f"The dispatcher serves scopes of type http, websocket and lifespan, not {kind!r}."
            )
        # Names from here on live as long as the connection, and so does what they hold.
        if (await receive())["type"] != "websocket.connect":
            return  # the client is gone already
        try:
            site, lifespan = self.site, self.lifespan
            if not lifespan.started:
                await lifespan.start()
            match = site.routes.find(scope)
            refusal: Refusal | None
            if match is None:
                refusal = site.origins.check_host(scope) or Refusal(404, "no route fits")
            else:
                handler, resolved, rest = match
                refusal = site.origins.check(scope, handler.options.allowed_origins)
        except Exception as exc:
            await fail(scope, send, exc)
            return
        if refusal is None and (most := site.max_connections) and sweep.count() >= most:
            refusal = Refusal(503, f"WEBSOCKET_MAX_CONNECTIONS ({most}) are open")
        if refusal is not None:
            await refuse(scope, send, refusal)
            return
        if lifespan.state and not scope.get("state"):  # uvicorn has an empty one without a lifespan
            scope = {**scope, "state": lifespan.state}
        subprotocols = handler.options.subprotocols
        connection = Connection(scope, receive, send, handler.limits, subprotocols)
        if site.drain:
            connection.server.drain_within(site.drain)
        socket = WebSocket(connection, resolved)
        open_sockets = sweep.local()
        open_sockets.add(socket)
        try:
            lanes.enter(socket)
            # The context of a connection has none yet: to ask would cost more than the accept.
            if prefix := site.script_name or scope.get("root_path"):
                set_script_prefix(prefix)
            if (site.plain and handler.plain) or await Admission(site, handler, socket).admit():
                await handler.run(socket, resolved.args, resolved.kwargs, rest)
        except BaseException as exc:
            await finish(socket, exc)
        else:
            await finish(socket, None)
        finally:
            open_sockets.remove(socket)
