"""The shim's own peer in memory under the interface of the fake ledger: contracts run on the real Stub."""

from collections.abc import Mapping

from fedfabric.fabric.identity import Identity
from fedfabric.fabric.shim.memory_peer import MemoryPeer, Simulation
from fedfabric.tests.unit.chaincode.fake_stub import Endorsed

_NAME = "fedfabric"


class MemoryLedger:
    """As FakeLedger, with every read and write a message of Fabric's chaincode protocol."""

    def __init__(self) -> None:
        self._peer = MemoryPeer({}, channel_id="consortium")
        self._simulations: dict[str, Simulation] = {}
        self.chain: list[list[tuple[Endorsed, str]]] = []

    @property
    def state(self) -> Mapping[str, tuple[bytes, int]]:
        return {key: (value, number) for key, value, number in self._peer.rows(_NAME, "", "", "")}

    async def simulate(self, chaincode: object, creator: Identity, timestamp_ms: int, *args: bytes) -> Endorsed:
        self._peer.chaincodes[_NAME] = chaincode
        function, *arguments = args
        simulation = await self._peer.simulate(_NAME, function, *arguments, creator=creator, timestamp_ms=timestamp_ms)
        assert not (simulation.scans and simulation.writes), "a transaction that writes reads by key only"
        assert not (simulation.paginated and simulation.writes), "a transaction that writes reads by key only"
        tx_id = simulation.invocation.tx_id
        self._simulations[tx_id] = simulation
        return Endorsed(
            tx_id,
            simulation.response,
            {place[2]: number or None for place, number in simulation.reads.items()},
            {place[2]: value or None for place, value in simulation.writes.items()},
            simulation.event,
            timestamp_ms,
        )

    def commit(self, *endorsed: Endorsed) -> list[str]:
        for one in endorsed:
            assert one.response.status < 400, "only endorsed transactions can be ordered"
        codes: list[str] = [self._peer.commit(self._simulations[one.tx_id]) for one in endorsed]
        self.chain.append(list(zip(endorsed, codes, strict=True)))
        return codes
