import hashlib

import pytest
from fedfabric.aggregation import CanonicalError, canonical_json, merkle_root, tagged_hash

# the leaves and roots that Certificate Transparency's implementations share (RFC 6962, section 2.1)
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("count", range(9))
def test_merkle_roots_are_those_of_rfc_6962(count):
    assert merkle_root(LEAVES[:count]) == ROOTS[count]


def test_a_tagged_hash_is_sha256_over_tag_zero_and_data():
    assert tagged_hash("plan", b"x") == hashlib.sha256(b"plan\0x").hexdigest()


def test_a_tag_can_not_swallow_the_separator():
    with pytest.raises(CanonicalError):
        tagged_hash("plan\0x", b"")


def test_canonical_json_sorts_and_packs():
    assert canonical_json({"b": [1, "é"], "a": None}) == '{"a":null,"b":[1,"é"]}'.encode()


@pytest.mark.parametrize(
    "value",
    [1.5, 2**53, -(2**53), {1: 2}, {"a": float("nan")}, b"x", "\ud800", [[[1.0]]]],
    ids=["float", "above 2^53-1", "below", "integer key", "nan", "bytes", "lone surrogate", "nested float"],
)
def test_what_has_no_canonical_bytes_is_refused(value):
    with pytest.raises(CanonicalError):
        canonical_json(value)


def test_json_nested_too_deep_is_refused_before_it_overflows_the_stack():
    value = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(CanonicalError, match="nested"):
        canonical_json(value)
    while value:  # taken apart by hand: the interpreter frees nested lists recursively
        value = value.pop()
