"""Reference pages made from the code: state machines from their tables, transactions from their declarations."""

from typing import Any

from .chaincode import CONTRACTS, LedgerChaincode
from .settings import Settings
from .states import MACHINES

_MADE = "<!-- Made from the code by `make proto`; `make check` compares. -->\n"


def state_machines() -> str:
    """docs/reference/state-machines.md."""
    parts = [
        "# State machines of the ledger\n\n"
        + _MADE
        + "\nEach table is the one that the contracts run: of the rows for a state and an event, the first whose"
        "\nguards all hold is taken; when none does, the caller gets the refusal named beside the guard, and when there"
        "\nis no row at all, WRONG_STATE. t is the proposal's timestamp, w the consortium's time window, D and A the"
        "\ndeadlines for updates and attestations. Saying again what is on the ledger is success and changes nothing.\n"
    ]
    parts += [
        f"## {machine.title}\n\n```mermaid\n{machine.mermaid()}\n```\n\n{machine.table()}\n" for machine in MACHINES
    ]
    return "\n".join(parts)


def transactions() -> str:
    """docs/reference/transactions.md."""
    declared = LedgerChaincode(Settings()).transactions
    parts = [
        "# Transactions of the ledger\n\n"
        + _MADE
        + "\nA transaction takes one argument, a JSON document of the request's model, and answers with canonical JSON"
        "\nof a record; both stand in `fedfabric.chaincode.records`. *Roles* are those of the caller's certificate"
        "\n(attribute `fedfabric.role`); any certificate of a member may evaluate what is *evaluated*.\n"
    ]
    for contract in CONTRACTS:
        rows = [
            f"| `{name}` | {_roles(one.declarations['roles'])} | `{one.declarations['request'].__name__}` "
            f"| {_summary(one.declarations['summary'])} |"
            for name, one in sorted(declared.items())
            if name.startswith(f"{contract.name}:")
        ]
        summary = (contract.__doc__ or "").strip()
        lines = [
            f"## {contract.name}",
            "",
            summary,
            "",
            "| transaction | roles | request | what it does |",
            "|---|---|---|---|",
        ]
        parts.append("\n".join([*lines, *rows, ""]))
    return "\n".join(parts)


def _roles(roles: Any) -> str:
    return "evaluated" if roles is None else ", ".join(role.value for role in roles)


def _summary(text: str) -> str:
    return text.strip().splitlines()[0]
