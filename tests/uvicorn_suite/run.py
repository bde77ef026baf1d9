"""Run uvicorn's tests of WebSocket classes on ours: ``tox run -e uvicorn_suite``.

They come from the sdist of exactly the uvicorn that is installed.
"""

import argparse
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from importlib.metadata import version
from pathlib import Path

OURS = Path(__file__).with_name("ours.py")
SUITE = "tests/protocols/test_websocket.py"
# uvicorn's class pauses reading as soon as one message waits. Ours reads on until 32 messages or
# 64 KiB do, so that it has not paused where this test begins.
LEFT_OUT = "test_close_resumes_reads_paused_on_an_unconsumed_message"


def unpacked(folder: Path) -> Path:
    """Fetch the sdist. Return its folder, with our class put in."""
    release = version("uvicorn")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    subprocess.run(
        [*pip, "--no-deps", "--no-binary", "uvicorn", "--dest", folder, f"uvicorn=={release}"],
        check=True,
    )
    with tarfile.open(folder / f"uvicorn-{release}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    sdist = folder / f"uvicorn-{release}"
    conftest = (sdist / SUITE).with_name("conftest.py")
    if conftest.exists():
        raise SystemExit(f"{conftest} is uvicorn's own: it would be lost")
    conftest.write_text(OURS.read_text(encoding="utf-8"), encoding="utf-8")
    return sdist


def passed(report: Path) -> int:
    """Return how many tests have passed, of those in a report of pytest."""
    cases = ET.parse(report).getroot().iter("testcase")
    return sum(not {"failure", "error", "skipped"} & {part.tag for part in case} for case in cases)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="is made anew")
    parser.add_argument("--least", type=int, required=True, help="so many tests must pass")
    arguments, options = parser.parse_known_args()
    folder = arguments.folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    report = folder / "report.xml"
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-o", "addopts=", "-rs"]
    code = subprocess.run(
        [*pytest, f"--junitxml={report}", f"--deselect={SUITE}::{LEFT_OUT}", *options, SUITE],
        cwd=unpacked(folder),
        check=False,
    ).returncode
    if not code and (count := passed(report)) < arguments.least:
        sys.stderr.write(f"Only {count} tests have passed: {arguments.least} must.\n")
        return 1
    return code


if __name__ == "__main__":
    raise SystemExit(main())
