"""The demo's child processes: each organisation's gateway, ended with the demo however it ends."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from ..exit_codes import ExitCode
from ..failures import Failure

GRACE_SECONDS = 5.0


class GatewayProcess:
    """``fedfabric gateway start`` as a child.

    It is told to stop when its parent does, whatever ends the parent, and has a session of its own, so that a Ctrl-C of
    the terminal reaches the demo alone, which ends it in order.
    """

    def __init__(self, organisation: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.organisation, self._process, self._log = organisation, process, log

    @classmethod
    async def start(cls, organisation: str, config: Path, log: Path) -> "GatewayProcess":
        """Start the gateway of a gateway.toml; returns at once, ``watch`` tells if it dies."""
        command = (sys.executable, "-m", "fedfabric.console", "gateway", "start", "--config", str(config))
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                *command,
                "--parent",
                str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        return cls(organisation, process, log)

    async def watch(self) -> None:
        """Wait until the gateway ends, which it should not.

        Raises:
            Failure: always, with its last lines.
        """
        await self._process.wait()
        said = "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:])
        raise Failure(
            ExitCode.UNAVAILABLE,
            "GATEWAY_ENDED",
            f"the gateway of {self.organisation} ended with status {self._process.returncode}:\n{said}",
            where=str(self._log),
            remedy="see its log",
        )

    async def stop(self) -> None:
        """End it: SIGTERM, then SIGKILL for its whole session; returns when it is gone."""
        if self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(GRACE_SECONDS):  # `wait_for` of Python 3.11 can lose a cancellation
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
