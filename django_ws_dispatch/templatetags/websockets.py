"""``{% load websockets %}``: addresses of sockets for pages."""

from __future__ import annotations

from typing import Any

from django import template
from django.core.exceptions import ImproperlyConfigured

from ..routing import reverse

__all__ = ["websocket_url"]

register = template.Library()


@register.simple_tag(takes_context=True)
def websocket_url(context: template.Context, name: str, /, *args: Any, **kwargs: Any) -> str:
    """The absolute URL of a socket: ``{% websocket_url "room" room=room.slug %}``.

    ``wss://`` where the page came over HTTPS, else ``ws://``, at the page's own host. It takes
    positional or keyword arguments, as ``{% url %}`` does, and ``as variable``.

    Args:
        context: of the template.
        name: a route's name or its handler's dotted path, behind its namespaces.
        args, kwargs: of the route, as for ``{% url %}``.

    Raises:
        NoReverseMatch: no route fits.
        ImproperlyConfigured: the context has no ``request``.
    """
    request = context.get("request")
    if request is None:
        raise ImproperlyConfigured(
            "{% websocket_url %} takes scheme and host from the request, and the context has none: "
            'add "django.template.context_processors.request" to the context_processors of '
            "TEMPLATES and render the template with the request."
        )
    scheme = "wss" if request.is_secure() else "ws"
    return f"{scheme}://{request.get_host()}{reverse(name, args=args, kwargs=kwargs)}"
