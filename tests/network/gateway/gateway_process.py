"""One gateway as a process of its own: `python gateway_process.py gateway.toml [deadlines as JSON]`."""

import asyncio
import ctypes
import json
import signal
import sys
from contextlib import suppress

import structlog
from fedfabric.gateway import Deadlines, serve

PR_SET_PDEATHSIG = 1


async def main() -> None:
    # A run of tests that is killed leaves no gateway behind.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    deadlines = Deadlines(**json.loads(sys.argv[2])) if len(sys.argv) > 2 else Deadlines()
    task = asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with suppress(asyncio.CancelledError):
        await serve(sys.argv[1], ready=lambda gateway: print(gateway.port, flush=True), deadlines=deadlines)


if __name__ == "__main__":
    asyncio.run(main())
