"""Run the Autobahn test suite on every server and write the table: ``tox -e autobahn``.

Needs ``wstest`` of autobahntestsuite, which is Python 2.7; ``WSTEST`` says where it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from tests.servers.expectations import SERVERS, VERSIONS
from tests.servers.processes import AnyServer

CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]
FORMS = ["bare", "raw", "websocket"]
OUTCOMES = ["OK", "NON-STRICT", "INFORMATIONAL", "FAILED"]
# Cases of a message and then a wrong frame: whether the echo of the message comes before the end is
# a matter of who is faster, on a bare server too. They are run again and again.
RACING = ["3.*", "4.*"]
REPEATS = 20
PAGE = Path(__file__).resolve().parents[2] / "docs" / "topics" / "conformance.md"
DEADLINE = 900.0

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

| server | OK | non-strict | informational | failed | differ |
|---|---|---|---|---|---|
"""
FOOT = """
{notes}
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


def start(stack: ExitStack) -> list[dict[str, str]]:
    """Start every server, bare and with the dispatcher; return them as the suite has them."""
    agents = []
    for name in SERVERS:
        bare = stack.enter_context(AnyServer(name, application="tests.autobahn.app:bare"))
        site = stack.enter_context(AnyServer(name, WEBSOCKET_HANDLERS="tests.autobahn.app"))
        for form, server, path in [
            ("bare", bare, ""),
            ("raw", site, "raw/"),
            ("websocket", site, "websocket/"),
        ]:
            agents.append({"agent": f"{name} {form}", "url": f"{server.url}/{path}"})
            # Broken frames are logged as errors by some servers.
            server.expected.append("")
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


def page(first: Index, again: list[Index]) -> tuple[str, int]:
    """Return the page, and how many cases differ."""
    rows, notes, differences, count = [], [], 0, 0
    for name in SERVERS:
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
        rows.append(f"| {name} {VERSIONS[name]} | {' | '.join(map(str, cells))} | {shown} |\n")
        failed = sorted(case for case, (behavior, _) in bare.items() if behavior == "FAILED")
        if failed:
            notes.append(f"Failed on {name}, bare as well: {', '.join(failed)}.\n")
        if racing:
            notes.append(
                f"Now so, now so on {name}, bare as well, in {len(again) + 1} runs: "
                f"{', '.join(sorted(racing))}.\n"
            )
        differences += len(differ)
    text = HEAD.format(count=count) + "".join(rows) + FOOT.format(notes="\n".join(notes))
    return text, differences


def main() -> int:
    wstest = os.environ.get("WSTEST")
    if not wstest:
        sys.stderr.write("WSTEST must be the path of autobahntestsuite's wstest.\n")
        return 2
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="autobahn-")))
        agents = start(stack)
        first = run(wstest, folder, agents, CASES)
        again = [run(wstest, folder, agents, RACING) for _ in range(REPEATS)]
    text, differences = page(first, again)
    PAGE.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return int(differences > 0)


if __name__ == "__main__":
    raise SystemExit(main())
