"""The contract of `relay.interfaces.IStore`, as checks that every provider passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from relay.interfaces import IClock, IStore
from relay.net.clock import ReactorClock

#: Makes an empty store that follows this clock.
Make = Callable[[IClock], IStore]

_NOON: Final = 1795435200.0


def check_store(make: Make) -> None:
    """All that the contract says, each with a store of its own. Raises `AssertionError`."""
    for check in _CHECKS:
        clock = Clock()
        check(make(ReactorClock(clock, lambda clock=clock: _NOON + clock.seconds())), clock)  # type: ignore[misc]


def _provides_the_interface(store: IStore, clock: Clock) -> None:
    verifyObject(IStore, store)
    verifyObject(IStore, store.scoped("part"))


def _says_what_was_put_last(store: IStore, clock: Clock) -> None:
    assert store.get("key") is None
    store.put("key", "one", 60)
    assert store.get("key") == "one"
    store.put("key", "two", 60)
    assert store.get("key") == "two"
    store.put("key", "", 60)
    assert store.get("key") == ""


def _forgets_when_it_is_told(store: IStore, clock: Clock) -> None:
    store.forget("key")
    store.put("key", "one", 60)
    store.forget("key")
    store.forget("key")
    assert store.get("key") is None
    assert not store.items()
    store.put("key", "two", 60)
    assert store.get("key") == "two"


def _forgets_when_the_time_is_over(store: IStore, clock: Clock) -> None:
    store.put("short", "1", 60)
    store.put("long", "1", 600)
    clock.advance(59)
    assert store.get("short") == "1"
    clock.advance(1)
    assert store.get("short") is None
    assert dict(store.items()) == {"long": "1"}
    store.put("short", "2", 60)
    assert store.get("short") == "2"


def _counts_a_lifetime_from_the_last_put(store: IStore, clock: Clock) -> None:
    store.put("longer", "1", 60)
    store.put("shorter", "1", 600)
    clock.advance(30)
    store.put("longer", "2", 60)
    store.put("shorter", "2", 20)
    clock.advance(25)
    assert store.get("shorter") is None
    clock.advance(30)
    store.put("other", "", 60)
    assert store.get("longer") == "2"
    clock.advance(10)
    assert store.get("longer") is None


def _keeps_parts_apart(store: IStore, clock: Clock) -> None:
    one, two = store.scoped("one"), store.scoped("two")
    one.put("key", "1", 60)
    assert two.get("key") is None
    two.put("key", "2", 60)
    two.forget("other")
    assert (one.get("key"), two.get("key")) == ("1", "2")
    assert list(one.items()) == [("key", "1")]
    two.forget("key")
    assert one.get("key") == "1"
    assert store.scoped("one").get("key") == "1"
    inner = one.scoped("two")
    inner.put("key", "3", 60)
    assert (one.get("key"), two.get("key"), inner.get("key")) == ("1", None, "3")
    for name in "", "two words":
        _refuses(lambda name=name: store.scoped(name))  # type: ignore[misc]


def _lists_what_begins_alike(store: IStore, clock: Clock) -> None:
    for number in range(5):
        store.put(f"a{number}", str(number), 60)
    store.put("b", "", 60)
    assert dict(store.items("a")) == {f"a{number}": str(number) for number in range(5)}
    assert len(store.items("a", 3)) == 3
    assert len(store.items()) == 6
    assert not store.items("c")


def _takes_any_text_and_refuses_what_is_none(store: IStore, clock: Clock) -> None:
    for key in "\0", "é", "\U0001f4a9", "a b", "%_'\"", "x" * 1000:
        store.put(key, key, 60)
        assert store.get(key) == key
    store.put("key", "x" * 10_000, 60)
    for key, value in ("", ""), ("x" * 1001, ""), ("key", "x" * 10_001), ("\ud800", ""), ("key", "\ud800"):
        _refuses(lambda key=key, value=value: store.put(key, value, 60))  # type: ignore[misc]
    _refuses(lambda: store.scoped("part").put("", "", 60))
    assert store.get("key") == "x" * 10_000


def _refuses_what_is_no_lifetime(store: IStore, clock: Clock) -> None:
    store.put("key", "one", 10 * 365 * 86400)
    for lifetime in 0, -1, float("nan"), float("inf"), 1e9:
        _refuses(lambda lifetime=lifetime: store.put("key", "two", lifetime))  # type: ignore[misc]
    assert store.get("key") == "one"


def _refuses(do: Callable[[], object]) -> None:
    try:
        do()
    except ValueError:
        return
    raise AssertionError("there should have been a ValueError")


_CHECKS: Final = (
    _provides_the_interface,
    _says_what_was_put_last,
    _forgets_when_it_is_told,
    _forgets_when_the_time_is_over,
    _counts_a_lifetime_from_the_last_put,
    _keeps_parts_apart,
    _lists_what_begins_alike,
    _takes_any_text_and_refuses_what_is_none,
    _refuses_what_is_no_lifetime,
)
