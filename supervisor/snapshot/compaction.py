"""Which packs to write anew, so that a restore after a thousand small snapshots asks for as few as after one.

Each snapshot adds a pack, most of them tiny. Packs are put into tiers by what the newest tree still uses of them; when
a tier has too many, it is read again from the disk together with the smaller ones, and stored as one. Content moves up
at most once per tier, so each byte is stored a few times in its life and not with every snapshot.
"""

from __future__ import annotations

from collections import defaultdict

from supervisor.snapshot.tree import Pack, Tree

TIERS = (64 << 10, 512 << 10, 4 << 20)
"""Upper bounds, in stored bytes in use; a pack beyond the last is never rewritten for being small."""
TIER_PACKS = 8
"""A tier with so many packs is merged."""
CHECK_EVERY = 4
"""Snapshots between two looks: looking costs a walk over the tree in memory."""


def scattered(tree: Tree) -> frozenset[Pack]:
    """The packs whose content is to be stored anew; empty as a rule."""
    in_use: dict[Pack, int] = defaultdict(int)
    for frame in {blob.frame for blob in tree.blobs()}:
        in_use[frame.pack] += frame.stored
    by_tier: list[set[Pack]] = [set() for _ in TIERS]
    for pack, stored in in_use.items():
        tier = next((number for number, limit in enumerate(TIERS) if stored < limit), None)
        if tier is not None:
            by_tier[tier].add(pack)
    for tier in reversed(range(len(TIERS))):
        if len(by_tier[tier]) >= TIER_PACKS:
            return frozenset().union(*by_tier[: tier + 1])
    return frozenset()
