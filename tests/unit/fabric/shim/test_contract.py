"""Contracts: names, typed arguments, results, hooks, refusals."""

import json

import pytest
from fedfabric.fabric.shim import (
    ChaincodeError,
    Contract,
    ContractChaincode,
    MemoryPeer,
    TransactionRefusedError,
    transaction,
)
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict


class Owner(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    name: str
    shares: int


class Assets(Contract):
    name = "assets"

    @transaction()
    async def raw(self, stub, value: bytes) -> bytes:
        return value

    @transaction()
    async def text(self, stub, value: str) -> str:
        return value

    @transaction()
    async def number(self, stub, value: int) -> int:
        return value

    @transaction()
    async def truth(self, stub, value: bool) -> bool:
        return value

    @transaction()
    async def owner(self, stub, value: Owner) -> Owner:
        return value

    @transaction()
    async def optional(self, stub, first: str, second: str = "default") -> str:
        return first + second

    @transaction()
    async def many(self, stub, first: str, *rest: int) -> list:
        return [first, *rest]

    @transaction()
    async def none(self, stub):
        return None

    @transaction()
    async def table(self, stub) -> dict:
        return {"b": [1, "ü"], "a": None}

    @transaction()
    async def endless(self, stub) -> float:
        return float("nan")

    @transaction(evaluate_only=True)
    async def write_anyway(self, stub):
        await stub.put_state("a", b"1")

    @transaction(name="renamed")
    async def original(self, stub):
        return "renamed"

    async def helper(self, stub):
        return "not a transaction"


class Others(Contract):
    @transaction()
    async def text(self, stub, value: str) -> str:
        return f"other {value}"


def peer_of(*contracts) -> MemoryPeer:
    return MemoryPeer({"cc": ContractChaincode(*contracts)})


async def call(function: str, *args, contracts=()) -> bytes:
    return await peer_of(*contracts or (Assets(), Others())).submit("cc", function, *args)


@pytest.mark.parametrize(
    ("function", "argument", "result"),
    [
        ("raw", b"\xff\x00", b"\xff\x00"),
        ("text", "grüezi", "grüezi".encode()),
        ("number", "-12", b"-12"),
        ("number", "0", b"0"),
        ("number", "9" * 78, b"9" * 78),
        ("truth", "true", b"true"),
        ("truth", "false", b"false"),
        ("owner", '{"name": "a", "shares": 1}', b'{"name":"a","shares":1}'),
    ],
)
async def test_arguments_and_results_by_their_types(function, argument, result):
    assert await call(f"assets:{function}", argument) == result


@given(st.integers(-(10**77), 10**77))
async def test_integers_survive(value):
    assert await call("number", str(value)) == str(value).encode()


@pytest.mark.parametrize(
    ("function", "argument", "text"),
    [
        ("text", b"\xff", "not UTF-8"),
        ("number", "", "not an integer"),
        ("number", "1.5", "not an integer"),
        ("number", " 1", "not an integer"),
        ("number", "1_000", "not an integer"),
        ("number", "+1", "not an integer"),
        ("number", "01", "not an integer"),
        ("number", "--1", "not an integer"),
        ("number", "-", "not an integer"),
        ("number", "-0", "not an integer"),
        ("number", "\u0663", "not an integer"),
        ("number", "9" * 79, "not an integer"),
        ("number", "9" * 1_000_000, "not an integer"),
        ("truth", "True", "neither true nor false"),
        ("truth", "1", "neither true nor false"),
        ("owner", "{", "Invalid JSON"),
        ("owner", b"\xff", "assets:owner, value"),
        ("owner", '{"name": "a", "shares": "1"}', "shares"),
        ("owner", '{"name": "a", "shares": 1, "more": "secret"}', "more"),
    ],
)
async def test_an_argument_that_does_not_decode_is_refused_by_name(function, argument, text):
    with pytest.raises(TransactionRefusedError, match=text) as refused:
        await call(function, argument)
    assert refused.value.status == 400
    assert f"assets:{function}, value" in refused.value.message
    assert "secret" not in refused.value.message
    assert len(refused.value.message) < 500


async def test_names_of_contracts_and_transactions():
    assert await call("text", "x") == b"x"
    assert await call("assets:text", "x") == b"x"
    assert await call("Others:text", "x") == b"other x"
    assert await call("renamed") == b"renamed"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "unknown",
        "Others:unknown",
        "assets:",
        ":text",
        "original",
        "helper",
        "before",
        "__init__",
        "\ud7ff",
        "x" * 10_000,
    ],
)
async def test_what_is_no_transaction_can_not_be_called(name):
    with pytest.raises(TransactionRefusedError, match="there is no transaction") as refused:
        await call(name)
    assert refused.value.status == 404
    assert len(refused.value.message) < 200


async def test_no_argument_at_all_names_no_transaction():
    peer = peer_of(Assets())
    peer.chaincodes["cc"] = ContractChaincode(Assets())
    with pytest.raises(TransactionRefusedError, match="there is no transaction"):
        await peer.submit("cc", "")


@pytest.mark.parametrize(
    ("function", "arguments", "text"),
    [
        ("text", [], "takes 1 arguments, not 0"),
        ("text", ["a", "b"], "takes 1 arguments, not 2"),
        ("optional", [], "takes 1 to 2 arguments, not 0"),
        ("optional", ["a", "b", "c"], "takes 1 to 2 arguments, not 3"),
        ("many", [], "takes 1 or more arguments, not 0"),
    ],
)
async def test_the_wrong_number_of_arguments(function, arguments, text):
    with pytest.raises(TransactionRefusedError, match=text):
        await call(function, *arguments)


async def test_arguments_may_be_left_out_or_repeated():
    assert await call("optional", "a") == b"adefault"
    assert await call("optional", "a", "b") == b"ab"
    assert await call("many", "a") == b'["a"]'
    assert await call("many", "a", "1", "2") == b'["a",1,2]'


async def test_results_without_a_type_are_json_with_sorted_keys():
    assert await call("none") == b""
    assert await call("table") == '{"a":null,"b":[1,"ü"]}'.encode()
    assert json.loads(await call("table")) == {"a": None, "b": [1, "ü"]}


async def test_a_result_that_has_no_json_is_an_internal_error():
    with pytest.raises(TransactionRefusedError, match=r"assets:endless: internal error \(ValueError\)"):
        await call("endless")


async def test_evaluate_only_transactions_can_not_write():
    peer = peer_of(Assets())
    with pytest.raises(TransactionRefusedError, match="reading only"):
        await peer.submit("cc", "write_anyway")
    assert peer.state("cc") == {}


class Guarded(Contract):
    """Roles by declaration, enforced in one place."""

    def __init__(self):
        self.seen = []

    async def before(self, stub, transaction):
        self.seen.append((transaction.name, stub.read_only))
        if transaction.declarations.get("role") not in (None, "steward"):
            raise ChaincodeError("not for you", status=403)

    async def after(self, stub, transaction, result):
        if result == b"regretted":
            raise ChaincodeError("regretted", status=409)

    def encode(self, result):
        return f"<{result}>".encode() if result != "regretted" else b"regretted"

    def invalid_argument(self, transaction, parameter, reason):
        return ChaincodeError(json.dumps({"field": parameter, "text": reason}), status=422)

    @transaction(role="steward")
    async def allowed(self, stub, value: int):
        await stub.put_state("allowed", b"1")
        return value

    @transaction(role="operator")
    async def forbidden(self, stub, value: int):
        raise AssertionError("never called")

    @transaction()
    async def regret(self, stub):
        await stub.put_state("regret", b"1")
        return "regretted"


async def test_before_runs_before_arguments_are_decoded_and_refuses():
    peer = peer_of(Guarded())
    with pytest.raises(TransactionRefusedError, match="not for you") as refused:
        await peer.submit("cc", "forbidden", "not a number")
    assert refused.value.status == 403
    assert await peer.submit("cc", "allowed", "5") == b"<5>"


async def test_after_can_refuse_what_was_done():
    peer = peer_of(Guarded())
    with pytest.raises(TransactionRefusedError, match="regretted"):
        await peer.submit("cc", "regret")
    assert peer.state("cc") == {}


async def test_a_contract_words_its_own_refusals():
    with pytest.raises(TransactionRefusedError) as refused:
        await call("allowed", "x", contracts=(Guarded(),))
    assert json.loads(refused.value.message)["field"] == "value"
    assert refused.value.status == 422


class Failing(Contract):
    @transaction()
    async def fail(self, stub, secret: str):
        raise RuntimeError(secret)

    @transaction()
    async def refuse(self, stub):
        raise ChaincodeError("no", status=499, payload=b"details")


async def test_an_exceptions_text_stays_in_the_log(caplog):
    with pytest.raises(TransactionRefusedError, match=r"Failing:fail: internal error \(RuntimeError\)") as refused:
        await call("fail", "secret", contracts=(Failing(),))
    assert "secret" not in str(refused.value)
    assert "secret" in caplog.text


async def test_a_refusal_has_status_message_and_payload():
    with pytest.raises(TransactionRefusedError) as refused:
        await call("refuse", contracts=(Failing(),))
    assert (refused.value.status, refused.value.message, refused.value.payload) == (499, "no", b"details")


@pytest.mark.parametrize("status", [0, 200, 399, 600])
def test_a_refusal_has_the_status_of_one(status):
    with pytest.raises(ValueError, match="no refusal"):
        ChaincodeError("no", status=status)


def test_wrong_declarations_fail_when_the_chaincode_is_made():
    class Unannotated(Contract):
        @transaction()
        async def call(self, stub, value):
            return value

    class Undecodable(Contract):
        @transaction()
        async def call(self, stub, value: float):
            return value

    class KeywordOnly(Contract):
        @transaction()
        async def call(self, stub, *, value: str):
            return value

    class Colon(Contract):
        name = "a:b"

    for contract in (Unannotated(), Undecodable(), KeywordOnly(), Colon()):
        with pytest.raises(TypeError):
            ContractChaincode(contract)
    with pytest.raises(TypeError, match="two transactions"):
        ContractChaincode(Assets(), Assets())
    with pytest.raises(TypeError, match="needs a contract"):
        ContractChaincode()
    with pytest.raises(TypeError, match="no async method"):

        @transaction()
        def synchronous(self, stub):
            return None


def test_a_chaincode_lists_its_transactions():
    listed = ContractChaincode(Guarded(), Others()).transactions
    assert set(listed) == {
        "Guarded:allowed", "Guarded:forbidden", "Guarded:regret", "allowed", "forbidden", "regret", "Others:text",
    }  # fmt: skip
    assert listed["allowed"].declarations == {"role": "steward"}
    assert listed["allowed"].parameters[0].name == "value"
