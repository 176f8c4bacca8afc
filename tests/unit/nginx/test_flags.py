"""The language of flag files: every bucket of every split has one owner, whoever asks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyctl.adapters.nginx.flags import (
    AT_REST,
    IN_SPLIT,
    PREVIEWED,
    expected_pool,
    flag_names,
    folder_name,
    matched_pool,
    parse_folder_name,
    telling_buckets,
)
from proxyctl.domain.model import Colour
from proxyctl.domain.split import WHOLE, Split
from proxyctl.ports import Flags

SPLITS = st.builds(Split, st.sampled_from(Colour), st.integers(0, WHOLE))
FLAGS = st.builds(
    lambda split, cover, preview: Flags(split=split, cover=cover, preview=preview),
    SPLITS,
    st.booleans(),
    st.none() | st.sampled_from(Colour),
)
ASKED = AT_REST + (IN_SPLIT + AT_REST) * 2  # all that a request asks which one move overtakes
BUCKETS = st.integers(0, WHOLE - 1)


def asked(bucket: int, names: frozenset[str]) -> list[str]:
    """The pools of all flags that nginx would find for this bucket."""
    b1, b2 = (f"{part:02d}" for part in divmod(bucket, 100))
    return [pool for flag, pool in AT_REST + IN_SPLIT if flag.format(b1=b1, b2=b2) in names]


@given(FLAGS, BUCKETS)
def test_each_bucket_finds_one_flag_and_it_is_its_owner(flags: Flags, bucket: int) -> None:
    assert asked(bucket, flag_names(flags)) == [expected_pool(flags, bucket)]


@given(FLAGS, BUCKETS)
def test_while_clients_are_let_go_each_bucket_finds_its_owner_and_only_in_the_second_place(
    flags: Flags, bucket: int
) -> None:
    names = flag_names(flags, closing=True)
    b1, b2 = (f"{part:02d}" for part in divmod(bucket, 100))
    assert not names & {flag for flag, _ in AT_REST}
    assert [pool for flag, pool in IN_SPLIT if flag.format(b1=b1, b2=b2) in names] == [expected_pool(flags, bucket)]
    assert parse_folder_name(folder_name(flags, closing=True)) == flags


@given(FLAGS)
def test_a_folder_never_holds_more_than_199_flags_and_one_for_a_preview(flags: Flags) -> None:
    assert 1 <= len(flag_names(flags)) - bool(flags.preview) <= 199


@given(FLAGS, st.booleans())
def test_what_a_rule_matches_finds_the_pool_of_the_preview_or_nothing(flags: Flags, closing: bool) -> None:
    names = flag_names(flags, closing)
    found = [pool for flag, pool in PREVIEWED if flag in names]
    assert found == ([matched_pool(flags)] if flags.preview else [])


@given(FLAGS)
def test_a_preview_changes_nothing_for_what_no_rule_matches(flags: Flags) -> None:
    without = flag_names(flags.replace(preview=None))
    assert without == {name for name in flag_names(flags) if not name.startswith("preview.")}


@given(st.none() | FLAGS)
def test_a_folder_name_says_its_flags(flags: Flags | None) -> None:
    assert parse_folder_name(folder_name(flags)) == flags


@pytest.mark.parametrize(
    "name",
    [
        *("", "red-00500", "green-500", "green-00500-", "green-00500-covers", "green-10001", "x"),
        *("green-00500-preview-", "green-00500-preview-red", "green-00500-preview-green-cover"),
    ],
)
def test_a_name_that_says_no_split_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_folder_name(name)


@given(FLAGS, FLAGS)
def test_the_telling_buckets_tell_any_two_splits_apart(one: Flags, other: Flags) -> None:
    buckets = {*telling_buckets(one), *telling_buckets(other)}
    same_answers = all(expected_pool(one, bucket) == expected_pool(other, bucket) for bucket in buckets)
    same_everywhere = one.cover == other.cover and one.split.same_traffic(other.split)
    mirrored = all(one.split.share(colour) == other.split.share(colour) for colour in Colour)
    assert same_answers == same_everywhere or mirrored


@given(FLAGS, FLAGS, BUCKETS, st.integers(0, len(ASKED)))
def test_a_move_between_two_questions_never_leaves_a_request_without_an_answer(
    old: Flags, new: Flags, bucket: int, overtaken_at: int
) -> None:
    """nginx asks again; the answer is the one of the old or of the new split."""
    b1, b2 = (f"{part:02d}" for part in divmod(bucket, 100))
    folders = flag_names(old), flag_names(new)
    found = [
        pool
        for number, (flag, pool) in enumerate(ASKED)
        if flag.format(b1=b1, b2=b2) in folders[number >= overtaken_at]
    ]
    assert found[0] in (expected_pool(old, bucket), expected_pool(new, bucket))


@given(st.sampled_from(Colour), st.integers(0, WHOLE), st.integers(0, WHOLE), BUCKETS)
def test_who_is_in_the_canary_stays_while_it_grows(lead: Colour, one: int, other: int, bucket: int) -> None:
    small, large = (Flags(split=Split(lead, size), cover=True) for size in sorted((one, other)))
    if expected_pool(small, bucket) == f"{lead}_cover":
        assert expected_pool(large, bucket) == f"{lead}_cover"
