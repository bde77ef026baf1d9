"""Publishers that are killed the moment their transaction is committed.

``python -m tests.databases.dying 20`` is so many, one after the other; each sends its number.
"""

from __future__ import annotations

import os
import signal
import sys

import django
from django.db import transaction

from django_ws_dispatch.groups import Group


def publish_and_die(number: int) -> None:
    """Does not return."""
    with transaction.atomic():
        Group("room:a").send(str(number))
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    django.setup()
    for number in range(int(sys.argv[1])):
        if not (child := os.fork()):
            publish_and_die(number)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), status


if __name__ == "__main__":
    main()
