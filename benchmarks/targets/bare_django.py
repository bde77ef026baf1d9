"""Bare ASGI in a process that has Django and its applications in memory.

What the garbage collector has to look through grows with all that was imported.
"""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")

import django

django.setup()

from .. import handlers  # noqa: E402, F401
from .bare import application  # noqa: E402, F401
