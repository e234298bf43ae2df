"""What the client's groups of calls share: making a request's record, making a call, having a transaction signed."""

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ..chaincode import records
from ..chaincode.records import Record
from .client_calls import Call
from .client_session import Asked, Session
from .errors import from_refusal
from .wire import to_message

if TYPE_CHECKING:
    from .client import Client

__all__ = ["Part", "make_request"]

T = TypeVar("T")
AnyRecord = TypeVar("AnyRecord", bound=Record)


class Part:
    """A group of calls."""

    def __init__(self, client: "Client") -> None:
        self.client = client

    def call(self, work: Callable[[Session], Awaitable[T]]) -> Call[T]:
        """A call that does some work over the connection of the loop that runs it."""

        async def run() -> T:
            try:
                return await work(self.client.session())
            except records.Refusal as refusal:
                # The request does not even make a record: said as the contract would say it.
                raise from_refusal(refusal) from refusal

        return Call(run, self.client.portal)

    def write(  # noqa: PLR0917 - one transaction, named part by part
        self,
        stub: Callable[[Any], Any],
        method: str,
        function: str,
        record: Callable[[], Record],
        result: type[AnyRecord],
        filled: tuple[str, ...] = (),
    ) -> Call[AnyRecord]:
        """A call that has a transaction prepared, signs it, and waits for its commit.

        Args:
            stub: the service's stub class.
            method: that prepares.
            function: `contract:transaction`, which the proposal has to call.
            record: makes the request.
            result: what the contract answers.
            filled: fields that the gateway may fill in.
        """

        async def work(session: Session) -> AnyRecord:
            made = record()
            prepare = getattr(stub(session.channel), method)
            return await session.write(prepare, to_message(made), Asked(function, made, filled), result)

        return self.call(work)


def make_request(kind: type[AnyRecord], **fields: Any) -> AnyRecord:
    """A request, checked by the rules that the contract will apply, and refused in the same words.

    Raises:
        Refusal: a field is not as the contract wants it.
    """
    plain = {
        name: value.model_dump(mode="json")
        if isinstance(value, Record)
        else [one.model_dump(mode="json") if isinstance(one, Record) else one for one in value]
        if isinstance(value, list | tuple)
        else value
        for name, value in fields.items()
    }
    return records.parse(json.dumps(plain).encode(), kind)
