"""One suite over uvicorn, hypercorn, daphne and granian: ``tox -e servers``.

``expectations.py`` is what each of them can do, with this package and by itself: every test asserts
its column, and ``table.py`` makes the page of the documentation from it.
"""
