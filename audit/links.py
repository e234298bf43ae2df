"""Names for the links of a ledger, as an auditor reads them: rows by their keys, transactions by what they called."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from ..chaincode.records import printable
from ..fabric.shim import ShimError, split_composite_key

if TYPE_CHECKING:
    from ..fabric.blocks import Transaction

_MAX_NAMED: Final = 64
_MAX_ARGUMENT: Final = 65_536


def describe_key(key: str) -> str:
    """Name a row by its key, as in "update of ClevelandMSP in round 1 of job heart"."""
    try:
        kind, parts = split_composite_key(key)
    except (ShimError, ValueError):
        return f"row {printable(key)[:_MAX_NAMED]}"
    named = [printable(part)[:_MAX_NAMED] for part in parts]
    texts = {
        "job": "job {0}",
        "job-decision": "decision of {1} on job {0}",
        "round": "round {1} of job {0}",
        "update": "update of {2} in round {1} of job {0}",
        "attestation": "attestation of {2} in round {1} of job {0}",
        "token": "token of {0} written by transaction {1}, output {2}",
        "dataset": "data set {0}/{1}",
        "access-request": "access request {0}",
        "access-grant": "grant of {1} for access request {0}",
        "access-revocation": "revocation of {1} for access request {0}",
        "access-use": "use {2} recorded by {1} under access request {0}",
        "mint": "mint {0}",
        "mint-approval": "approval of {1} for mint {0}",
        "consortium": "record of the consortium",
        "consortium-approval": "approval of {2} for change {0} of the consortium",
    }
    text = texts.get(kind, "row " + " ".join((kind, *named)))
    if kind in ("round", "update", "attestation") and len(named) > 1:
        named[1] = named[1].lstrip("0") or "0"
    try:
        return text.format(*named)
    except IndexError:
        return f"row {printable(key)[:_MAX_NAMED]}"


def describe_transaction(block: int, transaction: Transaction) -> str:
    """Name a transaction by its place, what it called, and by whom."""
    text = f"block {block}, transaction {transaction.number}"
    action = transaction.action
    if action is None:
        return text
    function = printable(action.arguments[0].decode("utf-8", "replace"))[:_MAX_NAMED] if action.arguments else ""
    if function:
        text += f": {function}"
    about = _about(action.arguments[1] if len(action.arguments) > 1 else b"")
    if about:
        text += f" {about}"
    if transaction.creator is not None:
        text += f" by {printable(transaction.creator.msp_id)[:_MAX_NAMED]}"
    return text


def _about(argument: bytes) -> str:
    """What a request speaks of: the values of job, round, id, data set in it."""
    if not argument or len(argument) > _MAX_ARGUMENT:
        return ""
    try:
        request: Any = json.loads(argument)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(request, dict):
        return ""
    named = []
    for name in ("job", "round", "id", "name", "mint", "dataset", "sequence"):
        value = request.get(name)
        if isinstance(value, str | int):
            named.append(f"{name} {printable(str(value))[:_MAX_NAMED]}")
    return " ".join(named)
