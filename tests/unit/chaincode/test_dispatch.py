"""What is checked before any transaction runs: argument, window, membership, role."""

import time

import pytest
from fedfabric.chaincode.chaincode import LedgerChaincode
from fedfabric.chaincode.dispatch import system_clock
from fedfabric.chaincode.records import ConsortiumView, Role, canonical_json, refusals
from fedfabric.chaincode.settings import Settings, SettingsError
from fedfabric.fabric.identity import Identity
from fedfabric.tests.unit.chaincode.fake_stub import identity
from fedfabric.tests.unit.chaincode.world import WINDOW, A, B, C, D, World, blob, change, digest, outcome, plan, terms

DECLARED = {name: one for name, one in LedgerChaincode(Settings()).transactions.items() if ":" in name}
WRITING = {name: one for name, one in DECLARED.items() if one.declarations["roles"] is not None}


def test_every_transaction_is_named_with_its_contract_and_takes_one_argument():
    assert len(DECLARED) == 36
    assert all(len(one.parameters) == 1 for one in DECLARED.values())
    assert all(one.evaluate_only == (one.declarations["roles"] is None) for one in DECLARED.values())


@pytest.mark.parametrize("function", sorted(WRITING))
async def test_only_the_declared_roles_may_call(world, function):
    declared = WRITING[function].declarations["roles"]
    for role in [None, "root", "", *(role.value for role in Role)]:
        creator = identity(A, role)
        stored = len(world.ledger.state)
        response = await _call(world, creator, function, VALID_REQUESTS[function])
        refused = "ROLE_REQUIRED" in response.message
        assert refused == (role not in {one.value for one in declared}), (function, role, response)
        assert len(world.ledger.state) == stored


@pytest.mark.parametrize("function", sorted(DECLARED))
async def test_outsiders_may_call_nothing(world, function):
    for role in (None, *(role.value for role in Role)):
        response = await _call(world, identity(D, role), function, VALID_REQUESTS[function])
        assert (response.status, "NOT_A_MEMBER" in response.message) == (403, True)


@pytest.mark.parametrize("function", sorted(DECLARED))
async def test_nothing_but_the_founding_is_possible_before_the_founding(function):
    world = World()
    response = await _call(world, identity(A, "operator"), function, VALID_REQUESTS[function])
    if function.startswith("consortium:"):
        assert "NO_CONSORTIUM" not in response.message
    else:
        assert "NO_CONSORTIUM" in response.message


@pytest.mark.parametrize("function", sorted(DECLARED))
@pytest.mark.parametrize("away", [WINDOW + 1, -WINDOW - 1, 10**12])
async def test_a_timestamp_outside_the_window_is_refused(world, function, away):
    creator = identity(A, "operator")
    argument = VALID_REQUESTS[function]
    stub = await world.ledger.simulate(world.chaincode, creator, world.now + away, function.encode(), argument)
    assert (stub.response.status, "TIME_WINDOW" in stub.response.message) == (408, True)


@pytest.mark.parametrize("away", [WINDOW, -WINDOW, 0])
async def test_a_timestamp_at_the_windows_edge_is_taken(world, away):
    stub = await world.ledger.simulate(
        world.chaincode, identity(A), world.now + away, b"consortium:show", VALID_REQUESTS["consortium:show"]
    )
    assert stub.response.status == 200


async def test_the_window_is_the_consortiums_once_it_is_founded():
    world = World()
    wide = change(A, B, C, window_ms=60_000)
    for msp in (A, B, C):
        await world.submit(msp, "operator", "consortium:approve", wide)
    away = world.now + 30_000
    argument = VALID_REQUESTS["consortium:show"]
    before = await world.ledger.simulate(world.chaincode, identity(A), away, b"consortium:show", argument)
    await world.submit(A, "operator", "consortium:apply", wide)
    after = await world.ledger.simulate(world.chaincode, identity(A), away, b"consortium:show", argument)
    assert (before.response.status, after.response.status) == (408, 200)


async def test_a_member_acts_only_in_the_roles_that_the_consortium_gives_it(world):
    members = [{"msp": A}, {"msp": B, "roles": ["gateway", "auditor"]}, {"msp": C}]
    restricted = {"sequence": 2, "members": members, "window_ms": WINDOW}
    for msp in (A, B):
        await world.submit(msp, "operator", "consortium:approve", restricted)
    await world.submit(A, "operator", "consortium:apply", restricted)
    request = {"name": "heart", "terms": terms()}
    with pytest.raises(refusals.RoleRequired, match="no role of this member"):
        await world.submit(B, "steward", "datasets:register", request)
    await world.submit(C, "steward", "datasets:register", request)


@pytest.mark.parametrize(
    "certificate", [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
async def test_a_certificate_that_cannot_be_read_has_no_role(world, certificate):
    response = await _call(world, Identity(A, certificate), "datasets:register", VALID_REQUESTS["datasets:register"])
    assert "ROLE_REQUIRED" in response.message


@pytest.mark.parametrize("name", ["", "x", "tokens:steal", "tokens:", ":mint", "tokens:mint:more", "\x00", "é" * 300])
async def test_an_unknown_transaction_is_a_refusal_of_ours(world, name):
    with pytest.raises(refusals.UnknownTransaction) as refused:
        await world.submit(A, "operator", name, {})
    assert str(refused.value).isascii()


@pytest.mark.parametrize("arguments", [(), (b"{}", b"{}"), (b"",) * 20])
async def test_any_other_number_of_arguments_is_refused(world, arguments):
    stub = await world.ledger.simulate(world.chaincode, identity(A), world.now, b"consortium:show", *arguments)
    assert (stub.response.status, "MALFORMED" in stub.response.message) == (400, True)


@pytest.mark.parametrize("function", sorted(DECLARED))
@pytest.mark.parametrize("argument", [b"", b"\xff\xfe", b"[]", b"NaN", b'{"id":' * 40_000, b'{"surprise":1}'])
async def test_every_transaction_refuses_garbage_before_it_reads_the_state(world, function, argument):
    stub = await world.ledger.simulate(world.chaincode, identity(A), world.now, function.encode(), argument)
    assert stub.response.status == 400
    assert stub.reads == {}


async def test_a_refusal_names_the_roles_that_would_do(world):
    with pytest.raises(refusals.RoleRequired, match=r"is auditor; needs gateway or operator$"):
        await world.propose(A, "auditor", "training:start", {"job": "j1"})


async def test_the_servers_clock_is_the_machines():
    assert abs(system_clock() - time.time() * 1000) < 60_000


async def test_show_answers_everybody_of_a_member_even_without_a_role(world):
    view = await world.evaluate("consortium:show", {}, ConsortiumView, msp=B)
    assert [member.msp for member in view.consortium.members] == [A, B, C]


async def _call(world, creator, function, argument):
    return (await world.ledger.simulate(world.chaincode, creator, world.now, function.encode(), argument)).response


def _valid_requests():
    place = {"job": "j1", "round": 1}
    decision = {"job": "j1", "digest": digest("x"), "privacy": "clear"}
    mint = {"id": "m", "owner": A, "amount": "1"}
    requests = {
        "consortium:approve": change(A, B, C),
        "consortium:apply": change(A, B, C),
        "consortium:show": {},
        "datasets:register": {"name": "heart", "terms": terms()},
        "datasets:update": {"id": f"{A}/heart", "version": 1, "terms": terms()},
        "datasets:retire": {"id": f"{A}/heart"},
        "datasets:show": {"id": f"{A}/heart"},
        "datasets:list": {},
        "access:request": {"id": "r", "dataset": f"{A}/heart", "version": 1, "purpose": "training"},
        "access:grant": {"id": "r"},
        "access:revoke": {"id": "r"},
        "access:withdraw": {"id": "r"},
        "access:use": {"id": "r", "operation": "o"},
        "access:show": {"id": "r"},
        "access:list": {},
        "tokens:approve": mint,
        "tokens:mint": mint,
        "tokens:transfer": {
            "owner": A,
            "inputs": [{"tx": digest("t"), "n": 0}],
            "outputs": [{"owner": B, "amount": "1"}],
        },
        "tokens:balance": {"owner": A},
        "training:submit": {"id": "j1", "plan": plan(), "datasets": [{"dataset": f"{A}/heart", "version": 1}]},
        "training:approve": decision,
        "training:refuse": decision,
        "training:add": {"job": "j1", "dataset": {"dataset": f"{A}/heart", "version": 1}},
        "training:start": {"job": "j1"},
        "training:cancel": {"job": "j1"},
        "training:abort": {"job": "j1"},
        "training:show": {"job": "j1"},
        "training:list": {},
        "training:update": place | {"attempt": 1, "blob": blob("u"), "samples": 1},
        "training:close": place,
        "training:report_missing": place | {"attempt": 1, "members": [A]},
        "training:recount": place,
        "training:attest": place | {"attempt": 1, "outcome": outcome("o"), "accept": True},
        "training:finalise": place | {"outcome": digest("o"), "attestations": [A]},
        "training:abort_round": place,
        "training:round": place,
    }
    assert set(requests) == set(DECLARED)
    return {function: canonical_json(request) for function, request in requests.items()}


VALID_REQUESTS = _valid_requests()


@pytest.mark.parametrize(
    "environment",
    [
        {"FEDFABRIC_FOUNDERS": "A,A"},
        {"FEDFABRIC_FOUNDERS": "A,B C"},
        {"FEDFABRIC_FOUNDERS": "A,\x00"},
        {"FEDFABRIC_WINDOW_MS": "0"},
        {"FEDFABRIC_WINDOW_MS": "1e3"},
        {"FEDFABRIC_WINDOW_MS": "1000000"},
        {"FEDFABRIC_WINDOW_MS": "٣٠٠٠"},
    ],
)
def test_settings_that_cannot_be_used_name_the_variable(environment):
    with pytest.raises(SettingsError, match=next(iter(environment))):
        Settings.from_environment(environment)


def test_settings_come_from_the_environment_in_the_order_of_msp_ids():
    read = Settings.from_environment({"FEDFABRIC_FOUNDERS": "BMSP, AMSP", "FEDFABRIC_WINDOW_MS": "1000"})
    assert read == Settings(("AMSP", "BMSP"), 1000)
    assert Settings.from_environment({}) == Settings((), 5000)
