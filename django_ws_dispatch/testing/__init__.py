"""Tools for the tests of a site with sockets."""
