"""The peer's messages, for every test of the shim."""

import importlib.util
import sys
from pathlib import Path

# With pytest's importlib mode a test can't import its neighbour by name.
_specification = importlib.util.spec_from_file_location("shim_protocol", Path(__file__).with_name("protocol.py"))
assert _specification is not None
assert _specification.loader is not None
_module = importlib.util.module_from_spec(_specification)
sys.modules["shim_protocol"] = _module
_specification.loader.exec_module(_module)
