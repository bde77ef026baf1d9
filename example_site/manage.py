#!/usr/bin/env python
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # The folder above, so that the site is the package example_site whatever the working folder.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_site.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
