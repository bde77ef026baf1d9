"""The Autobahn test suite against an echo, bare and through the dispatcher: ``tox -e autobahn``."""
