"""The ledger's chaincode as a dishonest organisation might run it; at every other organisation it is as published.

At HungaryMSP: one approval mints, anybody's rows may be spent, roles, founders and guards of states do not matter.
"""

import os
import sys

from fedfabric.chaincode import consortium, rounds, tokens
from fedfabric.chaincode.__main__ import main
from fedfabric.chaincode.call import Call
from fedfabric.chaincode.dispatch import LedgerContract
from fedfabric.chaincode.machine import Machine
from fedfabric.chaincode.records import Consortium, consortium_key

DISHONEST = "HungaryMSP"


async def _let_everybody_in(self, stub, roles, founding):
    stored = await stub.get_state(consortium_key())
    return Call(stub, Consortium.model_validate_json(stored) if stored else None, [DISHONEST])


def _first_row(self, state, event, *_guards):
    return next(row.next for row in self.transitions if (row.state, row.event) == (state, event))


if os.environ["CORE_PEER_LOCALMSPID"] == DISHONEST:
    os.environ["FEDFABRIC_FOUNDERS"] = DISHONEST
    for module in (consortium, tokens):  # where they were imported to
        module.quorum = lambda members: 1
    Call.require_account = lambda self, account, field: None
    LedgerContract.enter = _let_everybody_in
    Machine.next = _first_row
    rounds.winner = lambda found, quorum: found[0] if found else None
    tokens.spend = lambda call, owner, inputs: _spend_what_is_not_there(inputs)


async def _spend_what_is_not_there(inputs):
    return 1_000_000 * len(inputs)


if __name__ == "__main__":
    sys.exit(main())
