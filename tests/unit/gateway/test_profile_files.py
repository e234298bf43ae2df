"""A profile whose files can't be used: which one, and why, before anything is sent."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fedfabric.gateway import ConfigurationError, Limits, Profile
from fedfabric.gateway.client_session import Session
from fedfabric.tests.unit.gateway.test_trust import Authority, certificate, pem

CA = Authority("ca")
KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    content = {"certificate": pem(certificate("ada", KEY, CA)), "key": key_pem(KEY), "trust_roots": CA.pem}
    for name, value in content.items():
        (tmp_path / name).write_bytes(value)
    paths = {name: tmp_path / name for name in content}
    return Profile(gateway="127.0.0.1:9", msp_id="AMSP", channel="consortium", **paths)


async def test_a_profile_whose_files_fit_makes_a_session(profile: Profile) -> None:
    await Session(profile, timeout=1, limits=Limits()).close()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("certificate", b"\xff\x00", "profile, certificate: "),
        ("certificate", b"", "profile, certificate: "),
        ("key", b"\xff\x00", "profile, key: .* not an unencrypted PEM key"),
        ("key", key_pem(OTHER), "profile, key: .* is not the key of "),
        ("trust_roots", b"", "profile, trust_roots: .* holds no certificate"),
        ("trust_roots", b"\xff", "profile, trust_roots: .* holds no certificate"),
        ("key", None, "profile, key: .* can't be read"),
    ],
)
async def test_a_file_that_can_not_be_used_is_named(profile: Profile, name: str, content: bytes | None, told: str):
    path = getattr(profile, name)
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"^{told}"):
        Session(profile, timeout=1, limits=Limits())
