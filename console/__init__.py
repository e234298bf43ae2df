"""The ``fedfabric`` command: one module per command group, each of which parses, calls one room and prints."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status (``console/exit_codes.py``); prints no traceback."""
    try:
        from .application import run_command
    except KeyboardInterrupt:  # while Python was still reading our own modules
        sys.stderr.write("\nstopped\n")
        return 130
    return run_command(arguments)
