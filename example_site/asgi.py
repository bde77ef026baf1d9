"""The site, for a server.

::

    uvicorn example_site.asgi:application --ws django_ws_dispatch.uvicorn:WebSocketProtocol
"""

import os

from django_ws_dispatch.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_site.settings")

application = get_asgi_application()
