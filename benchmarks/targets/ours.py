"""This package."""

import gc
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")

from django_ws_dispatch.asgi import get_asgi_application

application = get_asgi_application()

if os.environ.get("BENCHMARK_FREEZE"):
    # What was made so far is never garbage: no collection has to look at it again.
    gc.collect()
    gc.freeze()
