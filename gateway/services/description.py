"""The service Gateway: what this gateway is, and whom it takes the caller for."""

from importlib.metadata import version
from typing import Any

from ..admission import caller
from ..parts import Parts
from ..v1 import gateway_pb2, gateway_pb2_grpc

NAMES = ("fedfabric.gateway.v1.Gateway",)


class Gateway(gateway_pb2_grpc.GatewayServicer):
    """Describe."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def Describe(self, _: gateway_pb2.DescribeRequest, __: Any) -> gateway_pb2.Description:  # noqa: N802
        """Describe the gateway and the caller."""
        who = caller()
        configuration = self._parts.configuration
        return gateway_pb2.Description(
            version=version("fedfabric"),
            msp_id=configuration.msp_id,
            channel=configuration.channel,
            chaincode=configuration.chaincode,
            block_number=self._parts.model.position - 1,
            genesis_hash=self._parts.model.genesis_hash,
            caller_msp_id=who.msp_id,
            caller_role=who.role.value if who.role is not None else "",
            caller_account=who.account,
            trains=configuration.trainer.enabled,
        )


def add(server: Any, parts: Parts) -> None:
    """Add the service to a server."""
    gateway_pb2_grpc.add_GatewayServicer_to_server(Gateway(parts), server)  # type: ignore[no-untyped-call]
