"""What of a network's folder is handed to other clients."""

from types import SimpleNamespace

from fedfabric.network import OrganisationSpec
from fedfabric.network.export import _users


def test_an_enrolment_that_is_under_way_or_was_killed_is_nobody_yet(tmp_path):
    users = tmp_path / "organisations" / "a" / "users"
    for name in ("steward", ".steward-x1y2z3"):
        (users / name).mkdir(parents=True)
        (users / name / "certificate.pem").write_text("certificate")
    found = _users(SimpleNamespace(home=tmp_path), OrganisationSpec(name="a"))
    assert [user.name for user in found] == ["steward"]
