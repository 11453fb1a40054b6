"""Runs the command: `python -m pytest_dispatch.beacon`."""

import sys

from .command import main

sys.exit(main())
