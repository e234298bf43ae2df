"""The ``fedfabric`` command: one module per command group, each of which parses, calls one room and prints."""

import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status (``console/exit_codes.py``); prints no traceback."""
    # gRPC's own log lines tell users nothing that the command does not tell them better; a developer may ask for them.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        from .application import run_command
    except KeyboardInterrupt:  # while Python was still reading our own modules
        sys.stderr.write("\nstopped\n")
        return 130
    return run_command(arguments)
