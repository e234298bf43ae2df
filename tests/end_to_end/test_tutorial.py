"""The tutorial's commands, exactly as the page has them, one after another."""

import re
from pathlib import Path

import pytest

pytestmark = [pytest.mark.network, pytest.mark.timeout(300)]

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"


def test_the_commands_of_the_tutorial_work_in_their_order(machine):
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 10
    script = "".join(blocks)
    assert '"$PWD/build/tutorial"' in script
    script = script.replace('"$PWD/build/tutorial"', f'"{machine.folder}/tutorial"')
    shell = machine.start("bash", "-euo", "pipefail", "-c", script)
    told, _ = shell.communicate()
    assert shell.returncode == 0, told
    assert "finished" in told
    assert "verified" in told
    assert machine.left_behind() == {}
