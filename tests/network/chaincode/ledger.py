"""The contracts on a real network, called directly by clients of every organisation."""

import asyncio
import contextlib
import json
from typing import Any

from fedfabric.chaincode.records import canonical_json, read_refusal
from fedfabric.fabric.client import (
    NO_RETRIES,
    CommitError,
    EndorseError,
    Gateway,
    GatewayError,
    Retries,
    connect,
    open_channel,
)
from fedfabric.network.network import Network
from fedfabric.tests.unit.chaincode.world import change, terms

MEMBERS = ("cleveland", "hungary", "switzerland")


class Ledger:
    """One chaincode on a running network, and every organisation's clients of it."""

    def __init__(self, network: Network, chaincode: str) -> None:
        self.network = network
        self.chaincode = chaincode
        self.endorsers: tuple[str, ...] = ()
        """Who endorses when a call does not say; nobody in particular when empty."""
        self._stack = contextlib.AsyncExitStack()
        self._gateways: dict[tuple[str, str, str], Gateway] = {}
        self._channels: dict[str, Any] = {}
        self._enrolling = asyncio.Lock()

    async def __aenter__(self) -> "Ledger":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def msp(self, organisation: str) -> str:
        return self.network.organisations[organisation].msp_id

    async def gateway(self, organisation: str, role: str, name: str = "") -> Gateway:
        """A client with a certificate of this role, at its own organisation's peer."""
        name = name or f"{role or 'nobody'}-{self.chaincode}"
        key = (organisation, role, name)
        async with self._enrolling:
            if key not in self._gateways:
                described = self.network.organisations[organisation]
                if organisation not in self._channels:
                    opened = open_channel(described.peer_endpoint, described.peer_tls_ca.read_bytes())
                    self._channels[organisation] = await self._stack.enter_async_context(opened)
                user = await self.network.enrol(organisation, name, role=role)
                self._gateways[key] = connect(self._channels[organisation], user.identity(), user.signer())
        return self._gateways[key]

    async def contract(self, organisation: str, role: str, name: str = "") -> Any:
        gateway = await self.gateway(organisation, role, name)
        return gateway.network(self.network.channel_name).contract(self.chaincode)

    async def submit(
        self,
        organisation: str,
        role: str,
        function: str,
        request: Any,
        *,
        name: str = "",
        retries: Retries | None = None,
        endorsers: tuple[str, ...] = (),
    ) -> Any:
        """Submit and wait until every peer has the block, so that none answers the next call from an older state."""
        contract = await self.contract(organisation, role, name)
        seen: list[str] = []

        async def note(transaction: Any) -> None:
            seen.append(transaction.transaction_id)

        with _refusals():
            result = await contract.submit(
                function,
                request if isinstance(request, bytes) else canonical_json(request),
                retries=retries,
                endorsing_organizations=[self.msp(one) for one in endorsers or self.endorsers],
                before_submit=note,
            )
        await self.settle(seen[-1])
        return json.loads(result)

    async def settle(self, transaction: str) -> None:
        """Wait until every organisation's peer has committed a transaction."""
        members = [name for name, one in self.network.organisations.items() if one.peers]
        gateways = [await self.gateway(member, "auditor") for member in members]
        networks = [gateway.network(self.network.channel_name) for gateway in gateways]
        await asyncio.gather(*(network.commit(transaction).status() for network in networks))

    async def evaluate(
        self, function: str, request: Any, organisation: str = "cleveland", role: str = "auditor"
    ) -> Any:
        contract = await self.contract(organisation, role)
        with _refusals():
            return json.loads(await contract.evaluate(function, canonical_json(request)))

    async def found(self, *members: str) -> None:
        request = change(*(self.msp(member) for member in members or MEMBERS))
        await asyncio.gather(
            *(self.submit(member, "operator", "consortium:approve", request) for member in members or MEMBERS)
        )
        await self.submit((members or MEMBERS)[0], "operator", "consortium:apply", request)

    async def mint(self, owner: str, amount: int, mint: str) -> dict[str, Any]:
        request = {"id": mint, "owner": owner, "amount": str(amount)}
        await asyncio.gather(*(self.submit(one, "operator", "tokens:approve", request) for one in MEMBERS))
        made = await self.submit("cleveland", "operator", "tokens:mint", request)
        return {"tx": made["token"]["tx"], "n": made["token"]["n"]}

    async def balance(self, owner: str) -> int:
        return int((await self.evaluate("tokens:balance", {"owner": owner}))["total"])

    async def data(self, name: str, submitter: str = "cleveland", owners: tuple[str, ...] = MEMBERS) -> list[Any]:
        """A data set of each owner under this name, and grants for the submitter; a job's list of data sets."""

        async def one(owner: str) -> dict[str, Any]:
            dataset = f"{self.msp(owner)}/{name}"
            await self.submit(owner, "steward", "datasets:register", {"name": name, "terms": terms()})
            if owner == submitter:
                return {"dataset": dataset, "version": 1}
            grant = f"{name}-{owner}"
            asked = {"id": grant, "dataset": dataset, "version": 1, "purpose": "training"}
            await self.submit(submitter, "scientist", "access:request", asked)
            await self.submit(owner, "steward", "access:grant", {"id": grant})
            return {"dataset": dataset, "version": 1, "grant": grant}

        return list(await asyncio.gather(*(one(owner) for owner in owners)))


@contextlib.contextmanager
def _refusals() -> Any:
    """Turn a contract's refusal in a client's error into the exception of its code."""
    try:
        yield
    except GatewayError as error:
        refusal = read_refusal(error.refusal.message) if error.refusal else None
        if refusal is None:
            raise
        raise refusal from error


__all__ = ["MEMBERS", "NO_RETRIES", "CommitError", "EndorseError", "Ledger"]
