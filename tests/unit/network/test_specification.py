"""network.yaml: what it means, and how each mistake is named with its line and its remedy."""

import pytest
from fedfabric.network import NetworkSpec, OrganisationSpec, SpecificationError

WHOLE = b"""\
name: heart
organisations:
  - {name: cleveland, orderers: 1, users: [{name: ada, role: scientist}]}
  - {name: hungary, orderers: 1}
  - {name: va-long-beach, orderers: 1}
  - {name: regulator, peers: 0, orderers: 1, msp_id: WatchMSP}
ordering: {batch_timeout_ms: 200}
chaincodes:
  - name: kv
    command: [python, ./kv.py, -x, ../other]
    probe: {function: nothing}
"""


def test_a_whole_description(tmp_path):
    path = tmp_path / "network.yaml"
    path.write_bytes(WHOLE)
    spec = NetworkSpec.load(path)
    assert [one.msp_id for one in spec.organisations] == ["ClevelandMSP", "HungaryMSP", "VaLongBeachMSP", "WatchMSP"]
    assert spec.ordering.type == "bft"
    assert spec.ordering.batch_timeout_ms == 200
    assert spec.window_ms == 5000
    assert spec.organisation("cleveland").users[0].role == "scientist"
    # Relative words of a command lie beside the file; everything else stays as it is.
    assert spec.chaincodes[0].command == ("python", str(tmp_path / "kv.py"), "-x", str(tmp_path.parent / "other"))


def test_a_description_survives_being_written_and_read():
    spec = NetworkSpec.parse(WHOLE)
    assert NetworkSpec.model_validate_json(spec.model_dump_json()) == spec


def test_the_smallest_description_has_our_chaincode():
    spec = NetworkSpec.parse(b"organisations: [{name: a, orderers: 1}]\nordering: {type: raft}\n")
    assert spec.chaincodes[0].command == ("python", "-m", "fedfabric.chaincode")
    assert spec.channel == "consortium"


CHANGES = {
    "an unknown key at the top": (b"name: heart", b"nmae: heart", r"network.yaml:1: nmae: unknown key"),
    "an unknown key inside": (
        b"{name: hungary,",
        b"{name: hungary, colour: red,",
        r":4: .*\[1\].colour: unk",
    ),
    "a missing key": (b"{name: ada, role: scientist}", b"{name: ada}", r":3: .*users\[0\].role: this key is missing"),
    "a key twice": (b"ordering: {", b"name: other\nordering: {", r":7: the key 'name' stands there twice"),
    "an unknown ordering": (
        b"{batch_timeout_ms: 200}",
        b"{type: solo}",
        r":7: ordering.type: Input should be",
    ),
    "a time out of range": (
        b"batch_timeout_ms: 200",
        b"batch_timeout_ms: 0",
        r":7: ordering.batch.*greater",
    ),
    "a word for a number": (b"batch_timeout_ms: 200", b"batch_timeout_ms: soon", r":7: .*valid integer"),
    "too few orderers for BFT": (
        b", peers: 0, orderers: 1, ",
        b", orderers: 0, ",
        r"BFT ordering needs 4.*raft",
    ),
    "an organisation twice": (b"{name: hungary", b"{name: cleveland", r"two entries share the organisation cleveland"),
    "an MSP id twice": (b"WatchMSP", b"HungaryMSP", r"two entries share the msp_id HungaryMSP"),
    "an organisation that runs nothing": (
        b"peers: 0, orderers: 1",
        b"peers: 0",
        r":6: .*runs neither",
    ),
    "a user called admin": (b"name: ada", b"name: admin", r"admin is taken"),
    "an unknown role": (b"role: scientist", b"role: king", r":3: organisations\[0\].users\[0\].role"),
    "a name with a slash": (b"name: hungary", b"name: ../hungary", r":4: organisations\[1\].name"),
    "a name in capitals": (b"name: hungary", b"name: Hungary", r":4: organisations\[1\].name"),
    "sizes that contradict": (
        b"batch_timeout_ms: 200",
        b"preferred_max_bytes: 9000000, absolute_max_bytes: 2048",
        r":7: ordering: preferred_max_bytes exceeds",
    ),
    "a policy that is none": (
        b"probe: {function: nothing}",
        b"endorsement: MOST('ClevelandMSP.peer')",
        r":11: chaincodes\[0\].endorsement: .*character 5.*OutOf\(2, ...\)$",
    ),
    "an alias": (
        b"command: [python, ./kv.py, -x, ../other]",
        b"command: &c [python, x]\n    environment: *c",
        r"an alias",
    ),
    "broken YAML": (b"ordering: {", b"ordering: {{", r":\d+: not YAML"),
    "bytes that are not text": (b"name: heart", b"name: \xff\xfe", r"not YAML: not UTF-8"),
    "a list instead": (WHOLE, b"- a\n- b\n", r":1: a network is described by keys"),
    "nothing": (WHOLE, b"", r":1: a network is described by keys"),
    "no organisations": (WHOLE, b"name: heart\n", r"organisations: this key is missing"),
    "an empty command": (b"[python, ./kv.py, -x, ../other]", b"[]", r"chaincodes\[0\].command"),
    "a file without end": (WHOLE, b"#" * (2**20 + 1), r"larger than 1048576 bytes"),
    "depth without end": (WHOLE, b"[" * 50_000, r"not YAML"),
}


@pytest.mark.parametrize(("old", "new", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_a_mistake_is_named_with_its_line_and_remedy(old, new, message):
    assert old in WHOLE
    with pytest.raises(SpecificationError, match=message) as error:
        NetworkSpec.parse(WHOLE.replace(old, new))
    assert "network.yaml" in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SpecificationError, match="No such file"):
        NetworkSpec.load(tmp_path / "network.yaml")


def test_an_organisation_that_nobody_knows():
    with pytest.raises(SpecificationError, match="no organisation basel in the network heart; it has cleve"):
        NetworkSpec.parse(WHOLE).organisation("basel")


def test_msp_ids_follow_from_names():
    assert OrganisationSpec(name="a-b2-c").msp_id == "AB2CMSP"
