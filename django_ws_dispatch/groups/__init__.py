"""Groups: one message to many sockets, from anywhere in Django.

::

    await Group("lobby").asend("hello")                # in a handler or an async view
    Group("lobby").send_json({"text": "hello"})        # in a view, a signal, a command, a task
    user_group(request.user).close(4403, "Removed")

What one publisher sends to one group, every member gets in that order.
"""

from .group import Group, user_group
from .history import History, Stored
from .membership import Membership
from .namespaces import namespace
from .tokens import asince_token, since_token
from .view import Present
from .watch import Change

__all__ = [
    "Change",
    "Group",
    "History",
    "Membership",
    "Present",
    "Stored",
    "asince_token",
    "namespace",
    "since_token",
    "user_group",
]
