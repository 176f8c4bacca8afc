"""What the name of a flag file means: the language between a split and nginx. Pure. Start at flag_names().

A flag is an empty file. Its name says which pool serves which requests, and one folder holds the flags of one split:

    all.green            every request goes to green
    all.green_cover      the same, and blue stands in when green cannot be reached
    blue.07              whole percent 07 of 00..99 (the first bucket) goes to blue
    green_cover.12.33    hundredth 33 of the one mixed percent 12 (the second bucket) goes to green
    preview.green        what a rule of the service matches goes to green, whatever its bucket

Every request that no rule matches has exactly one flag of a folder, so whichever flag nginx finds is the whole answer.
"""

from __future__ import annotations

from typing import NamedTuple

from proxyctl.domain.model import Colour
from proxyctl.domain.split import WHOLE, Split
from proxyctl.ports import Flags

COVER = "_cover"
COVERED_END = "-cover"
PREVIEW = "-preview-"  # then the colour
CLOSING_END = "-closing"
LOGGED = "logged"  # the flag, in a service's folder, that its requests are logged: where they are not always
CLOSING = "closing"  # the flag, beside the services' folders, that connections are to be closed
NOBODY = "none"  # the folder without flags: nothing serves


def pool(colour: Colour, cover: bool) -> str:
    return colour.value + COVER if cover else colour.value


PLAIN = tuple(pool(colour, False) for colour in Colour)
COVERED = tuple(pool(colour, True) for colour in Colour)


class Question(NamedTuple):
    """Is this flag there? Then this pool answers. `{b1}` and `{b2}` stand for the buckets of the request."""

    flag: str
    pool: str


# In the order of asking: each question costs a request one stat. Long after a deploy no cover is up, and a service asks
# once or twice; in a split the cover is up.
AT_REST = tuple(Question(f"all.{name}", name) for name in PLAIN + COVERED)
IN_SPLIT = tuple(
    Question(f"{name}.{buckets}", name)
    for pools in (COVERED, PLAIN)
    for buckets in ("{b1}", "{b1}.{b2}")
    for name in pools
)
# Of requests that a rule matches, before all others: of those alone, so that nobody else pays for them.
PREVIEWED = tuple(Question(f"preview.{name}", name) for name in COVERED + PLAIN)
# One move between two questions can make a request miss every flag, so it asks again, of the new folder. To miss each
# time it would have to be overtaken each time. Then, and where there is no flag at all, nothing serves.
ROUNDS = 6


def flag_names(flags: Flags | None, closing: bool = False) -> frozenset[str]:
    """Every file of the folder that says this: one, or at most 199; and one for a preview."""
    if flags is None:
        return frozenset()
    preview = {f"preview.{matched_pool(flags)}"} if flags.preview else set()
    return _split_names(flags, closing) | preview


def _split_names(flags: Flags, closing: bool) -> frozenset[str]:
    sole = flags.split.sole
    if sole is not None and not closing:
        return frozenset({f"all.{pool(sole, flags.cover)}"})
    whole, rest = divmod(flags.split.lead_share, 100)
    mixed = {whole} if rest else set()
    names = {f"{_owner(flags, b1 * 100)}.{b1:02d}" for b1 in range(100) if b1 not in mixed}
    names |= {f"{_owner(flags, b1 * 100 + b2)}.{b1:02d}.{b2:02d}" for b1 in mixed for b2 in range(100)}
    return frozenset(names)


def _owner(flags: Flags, bucket: int) -> str:
    return pool(flags.split.pool(bucket), flags.cover)


def folder_name(flags: Flags | None, closing: bool = False) -> str:
    """`green-00500-cover-preview-green`: the lead, its share in hundredths of a percent, the cover and the preview."""
    if flags is None:
        return NOBODY
    preview = f"{PREVIEW}{flags.preview}" if flags.preview else ""
    ends = (COVERED_END if flags.cover else "") + preview + (CLOSING_END if closing else "")
    return f"{flags.split.lead}-{flags.split.lead_share:05d}{ends}"


def parse_folder_name(name: str) -> Flags | None:
    """The inverse of folder_name(). Raises ValueError for a name that it never gives."""
    if name == NOBODY:
        return None
    said, _, preview = name.removesuffix(CLOSING_END).partition(PREVIEW)
    lead, _, share = said.removesuffix(COVERED_END).partition("-")
    flags = Flags(
        split=Split(Colour(lead), int(share)),
        cover=said.endswith(COVERED_END),
        preview=Colour(preview) if preview else None,
    )
    if folder_name(flags, is_closing(name)) != name:
        raise ValueError(f"{name!r} names no split")
    return flags


def is_closing(name: str) -> bool:
    """A folder of the same split in which even one that has all traffic is written in buckets: no request finds its
    pool at once, so each comes by the place where nginx decides to close its connection."""
    return name.endswith(CLOSING_END)


def telling_buckets(flags: Flags | None) -> tuple[int, ...]:
    """Buckets whose owners together prove this split: both ends, and both sides of the border."""
    border = flags.split.lead_share if flags else 0
    return tuple(sorted({bucket for bucket in (0, border - 1, border, WHOLE - 1) if 0 <= bucket < WHOLE}))


def expected_pool(flags: Flags | None, bucket: int) -> str:
    return _owner(flags, bucket) if flags else NOBODY


def matched_pool(flags: Flags | None) -> str:
    """Where a request goes that a rule matches; NOBODY: by its bucket, like any other."""
    return pool(flags.preview, flags.cover) if flags and flags.preview else NOBODY
