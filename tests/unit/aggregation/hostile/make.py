"""Writes the hostile safetensors files beside this script, each named after its flaw. Run it to change them."""

import json
from pathlib import Path

HERE = Path(__file__).parent
GOOD = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def file(header, data=bytes(8), length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


FILES = {
    # name after the code that refuses it
    "TRUNCATED empty_file": b"",
    "TRUNCATED seven_bytes": bytes(7),
    "TRUNCATED header_longer_than_file": file(GOOD, length=4096),
    "TOO_LARGE header_of_exabytes": file(GOOD, length=2**63),
    "TRUNCATED data_cut_short": file(GOOD, bytes(7)),
    "TRAILING bytes_behind_the_last_tensor": file(GOOD, bytes(9)),
    "TRAILING data_without_a_tensor": file({}, bytes(8)),
    "OFFSETS hole_before_the_first_tensor": file({"w": entry(offsets=(8, 16))}, bytes(16)),
    "OFFSETS two_tensors_share_bytes": file({"a": entry(), "b": entry()}),
    "OFFSETS end_before_start": file({"w": entry(offsets=(8, 0))}),
    "OFFSETS negative_offset": file({"w": entry(offsets=(-8, 0))}),
    "OFFSETS offset_is_a_float": file({"w": entry(offsets=(0, 8.0))}),
    "OFFSETS three_offsets": file({"w": entry(offsets=(0, 8, 8))}),
    "OFFSETS shape_larger_than_bytes": file({"w": entry(shape=(3,))}),
    "OFFSETS shape_product_overflows": file({"w": entry(shape=(2**32, 2**32, 2**32))}),
    "SHAPE negative_size": file({"w": entry(shape=(-2,))}),
    "SHAPE size_is_true": file({"w": entry(shape=(True, 2))}),
    "SHAPE a_hundred_dimensions": file({"w": entry(shape=(1,) * 100)}),
    "SHAPE size_beyond_53_bits": file({"w": entry(shape=(2**60,))}),
    "DTYPE unknown_type": file({"w": entry(dtype="F128")}),
    "DTYPE bfloat16_that_numpy_lacks": file({"w": entry(dtype="BF16", shape=(4,))}),
    "DTYPE type_is_a_list": file({"w": {**entry(), "dtype": ["F32"]}}),
    "NAME empty_name": file({"": entry()}),
    "NAME name_with_newline": file({"a\nb": entry()}),
    "NAME name_of_300_bytes": file({"n" * 300: entry()}),
    "NAME lone_surrogate": file(b'{"\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'),
    "HEADER entry_lacks_shape": file({"w": {"dtype": "F32", "data_offsets": [0, 8]}}),
    "HEADER entry_has_more_keys": file({"w": {**entry(), "extra": 1}}),
    "HEADER entry_is_a_number": file({"w": 1}),
    "HEADER not_utf8": file(b'{"\xff\xfe":1}'),
    "HEADER not_json": file(b"import os"),
    "HEADER list_instead_of_object": file([]),
    "HEADER nested_a_hundred_thousand_deep": file(b"[" * 100_000),
    "HEADER number_of_five_thousand_digits": file(b'{"w":' + b"9" * 5000 + b"}"),
    "HEADER metadata_is_a_list": file({"__metadata__": [], **GOOD}),
    "HEADER metadata_holds_a_number": file({"__metadata__": {"a": 1}, **GOOD}),
    "HEADER not_a_number_in_shape": file(b'{"w":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}'),
    "DUPLICATE tensor_named_twice": file(
        b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    ),
    "TOO_LARGE thirty_thousand_tensors": file(
        json.dumps({f"{i}": entry(shape=(0,), offsets=(0, 0)) for i in range(30_000)}, separators=(",", ":")).encode(),
        b"",
    ),
}

if __name__ == "__main__":
    for old in HERE.glob("*.safetensors"):
        old.unlink()
    for name, data in FILES.items():
        if len(data) < 100_000:
            (HERE / f"{name.replace(' ', '.')}.safetensors").write_bytes(data)
