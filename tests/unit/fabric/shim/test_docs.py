"""docs/chaincode.md says what is so."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

from fedfabric.fabric.shim import Limits, ServerSettings

PAGE = Path(__file__).parents[4] / "docs" / "chaincode.md"


def test_the_examples_run():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 2
    program = "\n".join(blocks).replace('if __name__ == "__main__":\n    serve(Assets())', "")
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_every_variable_is_listed_and_every_default_is_true():
    text = PAGE.read_text()
    source = Path(sys.modules[ServerSettings.__module__].__file__ or "").read_text()
    for variable in set(re.findall(r'"((?:CHAINCODE|CORE)_[A-Z_]+)"', source)):
        assert f"`{variable}`" in text, variable
    defaults = {field.name: field.default for field in dataclasses.fields(ServerSettings)}
    limits = Limits()
    for name, value in (
        ("CHAINCODE_MAX_CONCURRENCY", limits.running),
        ("CHAINCODE_TRANSACTION_SECONDS", defaults["transaction_seconds"]),
        ("CHAINCODE_GRACE_SECONDS", defaults["grace_seconds"]),
    ):
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{name}`")]
        assert f"({value:g})" in row
    assert f"up to {limits.waiting} more wait" in text
