"""How fast the package is, side by side with bare ASGI and its peers: ``python -m benchmarks``."""
