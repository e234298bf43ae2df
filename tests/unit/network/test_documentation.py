"""docs/networks.md says what the code does."""

import re
from pathlib import Path

from fedfabric.network import NetworkSpec, errors

PAGE = (Path(__file__).parents[3] / "docs" / "networks.md").read_text()
SAMPLE = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1]


def test_the_sample_is_a_network():
    spec = NetworkSpec.parse(SAMPLE.encode())
    assert spec.ordering.type == "bft"
    assert spec.chaincodes[0].probe.function == "nothing"


def test_the_defaults_that_it_names_are_the_defaults():
    said = NetworkSpec.parse(re.sub(r"^( *(?:- )?)# ", r"\1", SAMPLE, flags=re.MULTILINE).encode())
    plain = NetworkSpec.parse(SAMPLE.encode())
    endorsement = "/Channel/Application/Endorsement"
    assert said.chaincodes[0].endorsement == endorsement
    assert said.model_copy(update={"chaincodes": plain.chaincodes}) == plain
    assert said.chaincodes[0].model_copy(update={"endorsement": None}) == plain.chaincodes[0]


def test_every_error_is_explained():
    names = {name for name in dir(errors) if name.endswith("Error")} - {"NetworkError"}
    assert set(re.findall(r"^\| `(\w+Error)`", PAGE, re.MULTILINE)) == names
