"""The protocol on paper, in all its interleavings: three actors claim, hand over, commit, are fenced, die, collect.

The model is small on purpose: one step is one request. Every state that can be reached is visited once, with answers
that are lost at any write.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

ACTORS = 3
COMMITS = 1
"""Each life commits at most so often."""


@dataclass(frozen=True)
class Head:
    """HEAD, with its version (the ETag)."""

    version: int = 0
    epoch: int = 0
    held: bool = False
    asked: bool = False
    acknowledged: bool = False
    packs: tuple[int, ...] = ()
    """The packs that the retained snapshots refer to: the last two."""


@dataclass(frozen=True)
class Actor:
    """`at` is what it does next; `seen` is HEAD as it knows it."""

    at: str = "new"
    seen: Head | None = None
    epoch: int = 0
    pack: int = -1
    listed: frozenset[int] = frozenset()
    commits: int = 0


@dataclass(frozen=True)
class State:
    head: Head
    actors: tuple[Actor, ...]
    bucket: frozenset[int] = frozenset()
    packs_made: int = 0
    last_epoch: int = 0
    """The epoch of the newest commit."""


def put(state: State, number: int, actor: Actor, **changes: object) -> State:
    actors = list(state.actors)
    actors[number] = actor
    return replace(state, actors=tuple(actors), **changes)  # type: ignore[arg-type]


def swap(state: State, number: int, new: Head) -> Iterator[tuple[State, Head | None, bool]]:
    """Compare-and-swap: (state, HEAD as it was answered or None where it failed, was the answer lost)."""
    seen = state.actors[number].seen
    assert seen is not None
    if seen.version != state.head.version:
        yield state, None, False
        return
    written = replace(new, version=state.head.version + 1)
    after = replace(state, head=written)
    yield after, written, False
    yield after, written, True


def steps(state: State) -> Iterator[State]:
    for number, actor in enumerate(state.actors):
        if actor.at in ("dead", "done"):
            continue
        yield put(state, number, replace(actor, at="dead"))  # the VM is gone
        yield from _step(state, number, actor)


def _step(state: State, number: int, actor: Actor) -> Iterator[State]:
    head = state.head
    if actor.at == "new":
        yield put(state, number, replace(actor, at="decide", seen=head))
    elif actor.at == "decide":
        assert actor.seen is not None
        if actor.seen.held and not actor.seen.asked:
            for after, written, _ in swap(state, number, replace(actor.seen, asked=True)):
                yield put(after, number, replace(actor, at="decide" if written else "new", seen=written))
        if actor.seen.held:
            yield put(state, number, replace(actor, at="new"))  # looks again
        # Released, or waited for long enough: clocks decide nothing, so that may be at any time.
        wanted = replace(actor.seen, epoch=actor.seen.epoch + 1, held=True, asked=False, acknowledged=False)
        for after, written, lost in swap(state, number, wanted):
            at = "new" if written is None else "doubt" if lost else "hold"
            yield put(after, number, replace(actor, at=at, seen=written, epoch=wanted.epoch))
    elif actor.at == "doubt":  # the answer was lost: read back, and compare who wrote what is there
        # Only the holder of an epoch, and newcomers that ask it, write HEAD under it.
        mine = head.epoch == actor.epoch
        yield put(state, number, replace(actor, at="hold" if mine else "fenced", seen=head if mine else actor.seen))
    elif actor.at == "hold":
        yield from _hold(state, number, actor)
    elif actor.at == "commit":
        yield from _commit(state, number, actor)
    elif actor.at == "delete":
        yield from _delete(state, number, actor)
    elif actor.at == "fenced":
        assert head.epoch > actor.epoch, "nobody is fenced while HEAD has its epoch"
        yield put(state, number, replace(actor, at="done"))


def _hold(state: State, number: int, actor: Actor) -> Iterator[State]:
    assert actor.seen is not None
    head = state.head
    if head.epoch != actor.epoch:  # a look at HEAD
        yield put(state, number, replace(actor, at="fenced"))
    elif head.asked and not head.acknowledged:
        looked = put(state, number, replace(actor, seen=head))
        for after, written, _ in swap(looked, number, replace(head, acknowledged=True)):
            yield put(after, number, replace(actor, seen=written or head))
    if actor.commits < COMMITS:
        stored = replace(actor, at="commit", pack=state.packs_made, commits=actor.commits + 1)
        yield put(state, number, stored, bucket=state.bucket | {state.packs_made}, packs_made=state.packs_made + 1)
    yield put(state, number, replace(actor, at="delete", listed=state.bucket))
    released = replace(actor.seen, held=False, asked=False, acknowledged=False)
    for after, written, _ in swap(state, number, released):
        if written is not None:
            yield put(after, number, replace(actor, at="done"))
        else:
            yield put(after, number, replace(actor, at="hold" if head.epoch == actor.epoch else "fenced", seen=head))


def _commit(state: State, number: int, actor: Actor) -> Iterator[State]:
    assert actor.seen is not None
    wanted = replace(actor.seen, packs=(*actor.seen.packs, actor.pack)[-2:])
    for after, written, lost in swap(state, number, wanted):
        if written is None:
            fenced = state.head.epoch != actor.epoch
            yield put(after, number, replace(actor, at="fenced" if fenced else "commit", seen=state.head))
            continue
        assert state.head.epoch == actor.epoch >= state.last_epoch, "nobody commits after the fence"
        assert actor.pack in state.bucket
        committed = replace(after, last_epoch=actor.epoch)
        if lost:  # tried again on what HEAD says then: listed already, so nothing is listed twice
            assert written.packs.count(actor.pack) == 1
        yield put(committed, number, replace(actor, at="hold", seen=written))


def _delete(state: State, number: int, actor: Actor) -> Iterator[State]:
    """Listed before; now HEAD is looked at, and what it does not refer to is deleted - one request later at that."""
    if state.head.epoch != actor.epoch:
        yield put(state, number, replace(actor, at="fenced"))
        return
    mine = {actor.pack} if actor.commits else set()
    dead = actor.listed - set(state.head.packs) - mine - _young(state)
    yield put(state, number, replace(actor, at="hold", seen=state.head), bucket=state.bucket - dead)


def _young(state: State) -> set[int]:
    """What others are about to commit is younger than an hour."""
    return {actor.pack for actor in state.actors if actor.at == "commit"}


def check(state: State) -> None:
    assert set(state.head.packs) <= state.bucket, "what HEAD refers to is there"
    holders = [a for a in state.actors if a.at in ("hold", "commit", "delete") and a.epoch == state.head.epoch]
    assert len(holders) <= 1, "one writer to an epoch"


def same_for_all_that_follows(state: State) -> State:
    """Versions matter only as being the newest or not; who is called what, and what the dead knew, not at all."""
    actors = []
    for actor in state.actors:
        if actor.at in ("dead", "done"):
            actors.append(Actor(at="dead"))
            continue
        seen = actor.seen
        if seen is not None:
            seen = replace(seen, version=0 if seen.version == state.head.version else -1)
        actors.append(replace(actor, seen=seen))
    actors.sort(key=hash)
    return replace(state, head=replace(state.head, version=0), actors=tuple(actors))


def explore() -> set[State]:
    """Every state that can be reached. Raises `AssertionError` at the first that must not be."""
    first = State(Head(), (Actor(),) * ACTORS)
    seen = {first}
    queue = [first]
    while queue:
        state = queue.pop()
        check(state)
        for after in map(same_for_all_that_follows, steps(state)):
            if after not in seen:
                seen.add(after)
                queue.append(after)
        assert len(seen) < 500_000, "the model is too large"
    return seen


def test_no_interleaving_of_three_actors_breaks_the_protocol() -> None:
    seen = explore()
    assert len(seen) > 5_000
    assert any(state.head.epoch == ACTORS and len(state.head.packs) == 2 for state in seen)


def test_without_the_condition_on_the_etag_the_model_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Does the model see what it is there for?"""

    def overwrite(state: State, number: int, new: Head) -> Iterator[tuple[State, Head | None, bool]]:
        written = replace(new, version=state.head.version + 1)
        yield replace(state, head=written), written, False

    monkeypatch.setattr(sys.modules[__name__], "swap", overwrite)
    with pytest.raises(AssertionError):
        explore()
