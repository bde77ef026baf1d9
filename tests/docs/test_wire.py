"""What the pages say of close codes and tokens is what the package does."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import django_ws_dispatch
from django_ws_dispatch.codes import invites_back
from django_ws_dispatch.groups import tokens

from .pages import DOCS, blocks

pytestmark = pytest.mark.once

WIRE = DOCS / "reference" / "wire.md"
JAVASCRIPT = DOCS / "howto" / "javascript-client.md"
NATIVE = DOCS / "howto" / "native-clients.md"
CLIENT = Path(django_ws_dispatch.__file__).parent / "static" / "django_ws_dispatch"
CODES = range(1000, 5000)


def codes(text: str) -> set[int]:
    """The codes of a cell: ``1001, 1005`` or ``1011 to 1015``."""
    found = set[int]()
    for first, last in re.findall(r"\b(\d{4})(?: to (\d{4}))?", text):
        found.update(range(int(first), int(last or first) + 1))
    return found


@pytest.mark.parametrize(
    ("page", "comes_back", "stays_away"),
    [
        ("reference/wire.md", "yes", "no"),
        ("howto/javascript-client.md", "comes back", "`closed`"),
        ("howto/deploys.md", "yes", "no"),
    ],
)
def test_a_table_of_close_codes_is_what_invites_back(
    page: str, comes_back: str, stays_away: str
) -> None:
    rows = re.findall(r"^\| (\d{4}[^|]*) \|(?:.*\|)? ([^|]+) \|$", (DOCS / page).read_text(), re.M)
    answers = {code: answer for cell, answer in rows for code in codes(cell)}
    assert len(answers) >= 16
    for code, answer in answers.items():
        assert answer.startswith(comes_back if invites_back(code) else stays_away), code
    if page != "howto/deploys.md":
        # The rest of them is said to stay away.
        assert {code for code in CODES if invites_back(code)} <= set(answers)


def test_the_clients_on_the_pages_come_back_after_the_same_codes() -> None:
    expected = {code for code in CODES if invites_back(code)}
    pattern = re.search(r"^const COMES_BACK = /(.*)/;$", JAVASCRIPT.read_text(), re.M)
    assert pattern is not None
    assert {code for code in CODES if re.search(pattern[1], str(code))} == expected
    (client,) = (block for block in blocks(NATIVE) if block.file == "comeback.py")
    (value,) = (
        node.value
        for node in ast.parse(client.text).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMES_BACK"
    )
    assert eval(ast.unparse(value)) == expected


def cells(heading: str) -> set[str]:
    """What is in code in the first cells of the how-to's table that begins so."""
    table = JAVASCRIPT.read_text().partition(f"\n{heading}\n")[2].partition("\n\n")[0]
    first = "".join(row.split("|")[1] for row in table.splitlines())
    return {re.sub(r"\(.*", "", name) for name in re.findall("`([^`]+)`", first)}


def declared(interface: str) -> set[str]:
    """The names that client.d.ts has in an interface."""
    text = (CLIENT / "client.d.ts").read_text()
    body = re.search(rf"export interface {interface} .*?{{\n(.*?)^}}", text, re.M | re.S)
    assert body is not None
    return set(re.findall(r"^  (?:readonly )?(\w+)[?:<(]", body[1], re.M))


def test_the_tables_of_the_javascript_client_have_all_that_it_declares() -> None:
    assert cells("| option | default | |") == declared("Options")
    assert cells("| event | detail | |") == declared("SocketEvents")
    properties, methods = cells("| property | |"), cells("| method | |")
    of_every_target = {"addEventListener", "removeEventListener"}
    assert properties | methods == declared("Socket") - of_every_target


def test_the_tokens_on_the_page_of_the_wire_can_be_read() -> None:
    text = WIRE.read_text()
    (token,) = re.findall(r"since\.(eyJ\w+)", text)
    assert tokens.decode(token) == tokens.Brought({"room:lobby": "17.4"})
    (example,) = (block.text for block in blocks(WIRE) if '"<user>"' in block.text)
    brought = ast.literal_eval(example)
    positions = {name: one for name, one in brought.items() if name}
    assert tokens.decode(tokens.encode(positions, brought[""])).positions == positions
