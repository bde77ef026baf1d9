"""This package."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")

from django_ws_dispatch.asgi import get_asgi_application

application = get_asgi_application()
