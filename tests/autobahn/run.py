"""Run the Autobahn test suite on every server and write the tables: ``tox -e autobahn``.

uvicorn is there twice, with its own WebSocket class and with this package's. Needs ``wstest`` of
autobahntestsuite, which is Python 2.7; ``WSTEST`` says where it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from tests.servers.expectations import SERVERS, VERSIONS
from tests.servers.processes import AnyServer

# Each server, as the tables have it.
SUBJECTS = {
    name: f"{one.title or name}, {VERSIONS[one.package or name]}" for name, one in SERVERS.items()
}
CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]
# Large messages and many, and compression: what a class does on its own.
LARGE = ["9.*", "12.*", "13.*"]
LARGE_SUBJECTS = ["uvicorn", "own"]
LARGEST = 16 * 2**20
FORMS = ["bare", "raw", "websocket"]
OUTCOMES = ["OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED", "FAILED"]
# Cases of a message and then a wrong frame: whether the echo of the message comes before the end is
# a matter of who is faster, on a bare server too. They are run again and again.
RACING = ["3.*", "4.*"]
REPEATS = 20
PAGE = Path(__file__).resolve().parents[2] / "docs" / "topics" / "conformance.md"
DEADLINE = 3600.0

Index = dict[str, dict[str, tuple[str, str]]]

HEAD = """\
# Conformance

The [Autobahn test suite](https://github.com/crossbario/autobahn-testsuite) speaks to an echo:
served bare, and through the dispatcher as a raw handler and as a WebSocket handler. What a frame
may look like is the server's business; this package must change nothing about it. Case for case it
does not.

Cases 1 to 7 and 10, {count} of them, with the servers' defaults. Each cell counts the cases that
end so through the dispatcher; *differ* are those that, in either form, end or close in a way in
which they never do with the bare echo on the same server.

"""
TABLE = """\
| server | OK | non-strict | informational | unimplemented | failed | differ |
|---|---|---|---|---|---|---|
"""
LARGE_HEAD = """
## Large messages, and compression

Cases 9, 12 and 13, {count} of them, with the two WebSocket classes for uvicorn and
`WEBSOCKET_MAX_MESSAGE_SIZE` at the 16 MiB that uvicorn takes: messages of up to that size, in up to
65,536 fragments, and a thousand compressed ones in each case. *Unimplemented* is what a client
offers for compression and the server declines, as it may.

"""
FOOT = """
## Hostile input

`WS_DISPATCH_FUZZ=large python -m pytest tests/fuzz` makes up 10,000 scopes, 10,000 Origins, 40,000
conversations of up to 20 events each (messages, right and wrong, in any order, with a handler that
does anything in any order), 1,000 values for each setting, and 2,000 streams of frames to uvicorn:
4 minutes on two cores. It found a scope without a path, a path that can not be quoted, a time-out
that no float holds, a dotted path of dots and a handler among the middleware. Each is a test by
name, in `tests/fuzz/test_regressions.py`; nothing else failed, and no strange Origin reached a
handler. A small profile of it runs with every test.

`WS_DISPATCH_ENDS=1000 tox -e servers` sees 1,000 ends for each of 16 exit paths on uvicorn, and 100
on the others: every one is the close code that was meant, none is a 1006.

## Once more

The suite needs Python 2.7. To run it again, and write this page:

```sh
pip install "virtualenv<20.22"
virtualenv -p python2.7 /tmp/autobahn
/tmp/autobahn/bin/pip install autobahntestsuite
WSTEST=/tmp/autobahn/bin/wstest tox -e autobahn
```
"""


def start(stack: ExitStack, names: Iterable[str], **settings: Any) -> list[dict[str, str]]:
    """Start servers, bare and with the dispatcher; return them as the suite has them."""
    agents = []
    for name in names:
        bare = stack.enter_context(AnyServer(name, application="tests.autobahn.app:bare"))
        handlers = {"WEBSOCKET_HANDLERS": "tests.autobahn.app", **settings}
        site = stack.enter_context(AnyServer(name, **handlers))
        for form, one, path in [
            ("bare", bare, ""),
            ("raw", site, "raw/"),
            ("websocket", site, "websocket/"),
        ]:
            agents.append({"agent": f"{name} {form}", "url": f"{one.url}/{path}"})
            # Broken frames are logged as errors by some servers.
            one.expected.append("")
    return agents


def run(wstest: str, folder: Path, agents: list[dict[str, str]], cases: list[str]) -> Index:
    """Run cases of the suite. Return, for each agent and case, how it ended and was closed."""
    spec = {
        "outdir": str(folder / "reports"),
        "servers": agents,
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    # It exits with 0 whatever it finds.
    subprocess.run(
        [wstest, "-m", "fuzzingclient", "-s", str(folder / "spec.json")],
        check=True,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        timeout=DEADLINE,
    )
    index = json.loads((folder / "reports" / "index.json").read_text())
    return {
        agent: {case: (one["behavior"], one["behaviorClose"]) for case, one in ended.items()}
        for agent, ended in index.items()
    }


class Table(NamedTuple):
    """A table of the page.

    Attributes:
        text: it, and the notes below it.
        count: how many cases it is about.
        differences: how many of them differ, of all servers.
    """

    text: str
    count: int
    differences: int


def table(names: Iterable[str], first: Index, again: Sequence[Index] = ()) -> Table:
    """Return how the cases ended on servers."""
    rows, notes, differences, count = [], [], 0, 0
    for name in names:
        bare = first[f"{name} bare"]
        count = len(bare)
        racing: set[str] = set()
        differ: set[str] = set()
        for case in bare:
            ends = [
                {
                    index[f"{name} {form}"][case]
                    for index in [first, *again]
                    if case in index[f"{name} {form}"]
                }
                for form in FORMS
            ]
            if any(one - ends[0] for one in ends):
                differ.add(case)
            elif len(ends[0]) > 1:
                racing.add(case)
        counts = Counter(behavior for behavior, _ in first[f"{name} websocket"].values())
        cells = [counts[outcome] for outcome in OUTCOMES]
        shown = ", ".join(sorted(differ)) or "0"
        rows.append(f"| {SUBJECTS[name]} | {' | '.join(map(str, cells))} | {shown} |\n")
        failed = sorted(case for case, (behavior, _) in bare.items() if behavior == "FAILED")
        if failed:
            notes.append(f"\nFailed on {name}, bare as well: {', '.join(failed)}.\n")
        if racing:
            notes.append(
                f"\nNow so, now so on {name}, bare as well, in {len(again) + 1} runs: "
                f"{', '.join(sorted(racing))}.\n"
            )
        differences += len(differ)
    return Table("".join([TABLE, *rows, *notes]), count, differences)


def page(every: Table, large: Table) -> str:
    return "".join(
        [
            HEAD.format(count=every.count),
            every.text,
            LARGE_HEAD.format(count=large.count),
            large.text,
            FOOT,
        ]
    )


def main() -> int:
    wstest = os.environ.get("WSTEST")
    if not wstest:
        sys.stderr.write("WSTEST must be the path of autobahntestsuite's wstest.\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="autobahn-") as name:
        folder = Path(name)
        with ExitStack() as stack:
            agents = start(stack, SUBJECTS)
            first = run(wstest, folder, agents, CASES)
            again = [run(wstest, folder, agents, RACING) for _ in range(REPEATS)]
        with ExitStack() as stack:
            agents = start(stack, LARGE_SUBJECTS, WEBSOCKET_MAX_MESSAGE_SIZE=LARGEST)
            at_large = run(wstest, folder, agents, LARGE)
    every, large = table(SUBJECTS, first, again), table(LARGE_SUBJECTS, at_large)
    text = page(every, large)
    PAGE.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return int(every.differences + large.differences > 0)


if __name__ == "__main__":
    raise SystemExit(main())
