"""WebSockets for Django: handlers mounted by path, next to the site's HTTP application."""

__version__ = "0.1.0"
