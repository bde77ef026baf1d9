"""Sphinx: `tox -e docs`. Nothing outside this folder and the package is read, the network least."""

import os
import sys
from pathlib import Path

import django
from django.conf import settings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.pop("DJANGO_SETTINGS_MODULE", None)
settings.configure(
    INSTALLED_APPS=[
        "django_ws_dispatch",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
    ],
    WEBSOCKET_HANDLERS={},
)
django.setup()

from django_ws_dispatch import __version__  # noqa: E402

project = "django-ws-dispatch"
copyright = "the django-ws-dispatch contributors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
python_use_unqualified_type_names = True

# Every reference must be found; what lies outside this package has no inventory here.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!django_ws_dispatch\b).*"),
    # Names that are private: they are seen in signatures and documented nowhere.
    (
        r"py:.*",
        r"django_ws_dispatch\.(decorators\.H|handshake\.request\..*)",
    ),
]

html_theme = "furo"
html_title = f"django-ws-dispatch {release}"
html_show_sourcelink = False
html_copy_source = False
