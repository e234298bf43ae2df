import pytest
from fedfabric.console.output import Format, chosen


@pytest.fixture(autouse=True)
def _text_unless_asked_otherwise():
    chosen.format = Format.TEXT
    yield
    chosen.format = Format.TEXT
