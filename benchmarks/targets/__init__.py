"""The applications that are compared, each a module with an ``application``.

All of them have the same paths, as far as they can do what is asked there:

- ``/ws/echo/`` sends every message back;
- ``/ws/full/`` does so for a logged-in user, with all limits on;
- ``/ws/member/`` joins a group and says ``joined``;
- ``/ws/publish/`` sends what it gets to the group;
- ``/ws/block/`` blocks in sync code for a second, then answers.
"""
