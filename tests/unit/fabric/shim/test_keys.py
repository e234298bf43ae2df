"""Composite keys: what goes in comes out, keys sort by their parts, hostile parts are refused."""

import pytest
from fedfabric.fabric.shim import UsageError, create_composite_key, split_composite_key
from fedfabric.fabric.shim.keys import composite_range, simple_range
from hypothesis import given
from hypothesis import strategies as st

PART = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00\U0010ffff"))


@given(PART, st.lists(PART))
def test_what_goes_in_comes_out(object_type, attributes):
    assert split_composite_key(create_composite_key(object_type, attributes)) == (object_type, tuple(attributes))


@given(PART, st.lists(PART), PART, st.lists(PART))
def test_different_parts_have_different_keys(first_type, first, second_type, second):
    same = (first_type, first) == (second_type, second)
    assert (create_composite_key(first_type, first) == create_composite_key(second_type, second)) is same


@given(PART, st.lists(PART, max_size=3), PART, st.lists(PART, max_size=4))
def test_a_partial_key_covers_exactly_the_keys_that_start_with_its_parts(
    partial_type, partial, object_type, attributes
):
    start, end = composite_range(partial_type, partial)
    key = create_composite_key(object_type, attributes)
    covered = start.encode() <= key.encode() < end.encode()
    assert covered is ([object_type, *attributes][: len(partial) + 1] == [partial_type, *partial])


def test_the_key_is_what_the_official_shims_build():
    assert create_composite_key("type", ["a", "b"]) == "\x00type\x00a\x00b\x00"


@pytest.mark.parametrize("part", ["a\x00b", "\U0010ffff", "\ud800"])
def test_parts_that_would_break_the_order_are_refused(part):
    with pytest.raises(UsageError):
        create_composite_key("type", [part])
    with pytest.raises(UsageError):
        create_composite_key(part, [])


def test_one_string_is_no_list_of_attributes():
    with pytest.raises(UsageError, match="list"):
        create_composite_key("type", "ab")


@pytest.mark.parametrize("key", ["", "\x00", "simple", "\x00no end", "no start\x00"])
def test_a_simple_key_does_not_split(key):
    with pytest.raises(UsageError):
        split_composite_key(key)


def test_an_open_range_starts_behind_the_composite_keys():
    assert simple_range("", "") == ("\x01", "")
    assert simple_range("a", "b") == ("a", "b")


@pytest.mark.parametrize("borders", [("\x00a", ""), ("", "\x00a"), ("\ud800", "")])
def test_a_range_over_simple_keys_takes_no_composite_border(borders):
    with pytest.raises(UsageError):
        simple_range(*borders)
