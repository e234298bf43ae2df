"""``python -m fedfabric.chaincode``: an organisation's chaincode server, configured by its environment alone."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping

from ..fabric.shim import ChaincodeServer, ServerSettings
from ..fabric.shim import SettingsError as ServerSettingsError
from .chaincode import LedgerChaincode
from .settings import Settings, SettingsError


async def serve(environment: Mapping[str, str]) -> None:
    """Serve every contract until SIGTERM or SIGINT, then finish what runs.

    Raises:
        SettingsError: of ours or of the shim's; the message names the variable.
    """
    chaincode = LedgerChaincode(Settings.from_environment(environment))
    async with ChaincodeServer(chaincode, ServerSettings.from_environment(environment)) as server:
        asked = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, asked.set)
        await asked.wait()
        await server.stop()


def main() -> int:
    """Run the server; 2 when its environment keeps it from starting."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        asyncio.run(serve(os.environ))
    except (SettingsError, ServerSettingsError) as error:
        sys.stderr.write(f"fedfabric.chaincode can't start: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
