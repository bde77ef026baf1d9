"""Tests are collected where what they are about, and a client, are installed: ``tox -e mounts``."""

from importlib.util import find_spec

FRAMEWORKS = ["fastapi", "socketio", "strawberry", "uvicorn", "websockets"]
NEEDS = {
    "test_channels.py": ["channels", "uvicorn", "websockets"],
    "test_gunicorn.py": ["gunicorn", "uvicorn_worker", "websockets"],
    "test_opentelemetry.py": ["opentelemetry", "uvicorn", "websockets"],
    "test_sentry.py": ["sentry_sdk", "uvicorn", "websockets"],
    "test_socketio.py": [*FRAMEWORKS, "aiohttp"],
    "test_starlette.py": FRAMEWORKS,
    "test_strawberry.py": [*FRAMEWORKS, "gql"],
}

collect_ignore = [
    name for name, packages in NEEDS.items() if any(find_spec(one) is None for one in packages)
]
