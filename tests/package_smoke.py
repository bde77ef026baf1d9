"""Build the archives, check them, and use the wheel from another folder: ``tox run -e package``."""

import subprocess
import sys
import tarfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

SITE = """
import asyncio
from importlib.metadata import entry_points
from pathlib import Path

from django.conf import settings

import django_ws_dispatch
from django_ws_dispatch.asgi import get_asgi_application

async def ping(websocket):
    async for message in websocket:
        await websocket.send("pong!" if message == "ping" else message)

settings.configure(
    ALLOWED_HOSTS=["testserver"],
    INSTALLED_APPS=["django_ws_dispatch"],
    ROOT_URLCONF=[],
    SECRET_KEY="smoke",
    WEBSOCKET_HANDLERS={"ws/ping/": ping},
)
application = get_asgi_application()

async def talk():
    inbox = [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "ping"},
        {"type": "websocket.disconnect", "code": 1000},
    ]
    sent = []

    async def receive():
        return inbox.pop(0)

    async def send(event):
        sent.append(event)

    scope = {
        "type": "websocket", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "ws",
        "path": "/ws/ping/", "raw_path": b"/ws/ping/", "query_string": b"", "root_path": "",
        "headers": [(b"host", b"testserver")], "subprotocols": [],
    }
    await application(scope, receive, send)
    return [event["type"] for event in sent], sent[1].get("text")

types, answer = asyncio.run(talk())
assert types[:2] == ["websocket.accept", "websocket.send"] and answer == "pong!", (types, answer)
[plugin] = entry_points(group="pytest11", name="django_ws_dispatch")
package = Path(django_ws_dispatch.__file__).parent
assert (package / "py.typed").exists()
for name in ("client.js", "client.d.ts", "package.json"):
    assert (package / "static/django_ws_dispatch" / name).exists(), name
assert "site-packages" in str(package), package
print("installed", django_ws_dispatch.__version__, "answers", answer)
"""


def run(*command: str | Path, cwd: Path) -> None:
    print("+", *command, flush=True)  # noqa: T201
    subprocess.run(list(command), cwd=cwd, check=True)


def main(folder: Path) -> None:
    archives = folder / "dist"
    run(
        sys.executable,
        "-m",
        "build",
        "--quiet",
        "--installer",
        "uv",
        "--outdir",
        archives,
        ROOT,
        cwd=folder,
    )
    wheel, sdist = next(archives.glob("*.whl")), next(archives.glob("*.tar.gz"))
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist, cwd=folder)

    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"LICENSE", "tox.ini", "tests/settings.py", "example_site/manage.py"}
    if missing := wanted - names:
        raise SystemExit(f"the sdist lacks {', '.join(sorted(missing))}: see MANIFEST.in")

    environment = folder / "environment"
    venv.create(environment, with_pip=True, clear=True)
    python = environment / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd=folder)
    (folder / "site_smoke.py").write_text(SITE)
    run(python, "-I", "site_smoke.py", cwd=folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
