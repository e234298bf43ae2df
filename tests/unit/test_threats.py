"""docs/threats.md claims that tests carry the attacks out; each test that it names is one."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_threats_name_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "threats.md").read_text()))
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?: {4})?(?:async )?def (test_\w+)\(", path.read_text(), re.MULTILINE)
    }
    assert named - defined == set()
    assert len(named) >= 20
