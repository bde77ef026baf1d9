"""The broker on the site's own database: no further server, and it is an app with a migration.

A message is a row that its sender inserts, so it is sent if and only if the transaction around it
commits. Numbers give the rows an order, the same for everybody, and are given out where a
transaction commits: PostgreSQL by a trigger, SQLite as its one writer inserts, MySQL and MariaDB by
whoever finds a row without one (``numbers.py``). Each event loop that has sockets reads what came
behind the last number that it has seen (``subscriber.py``), woken by NOTIFY or now and then.

What a channel remembers are its rows (``history.py``); what is over is deleted a little at a time
(``care.py``).
"""

from __future__ import annotations

from .broker import DatabaseBroker

__all__ = ["DatabaseBroker"]
