"""Two sites with tenants, for ``test_tenants``: schemas of django-tenants, and row-level security.

Pages, handlers and commands are the same; ``schemas`` and ``policies`` are what differs. Each has
two tenants, red and blue, with the same primary keys, session keys and password hashes, as one has
that was copied from the other.
"""
