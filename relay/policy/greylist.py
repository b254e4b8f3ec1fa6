"""`use = "greylist"`: whoever is new here is asked to come again (RFC 6647)."""

import re
from typing import Annotated, Final, Self

from pydantic import Field, model_validator
from zope.interface import implementer

from relay.config.fields import Count, Section
from relay.config.units import DAY, Duration, at_most
from relay.interfaces import IRoutingPolicy, World
from relay.mail.address import Address
from relay.mail.envelope import OURSELVES
from relay.mail.routing import ABSTAIN, Delay, Inquiry, Note, RoutingVerdict
from relay.policy.clients import network_of
from relay.policy.names import about, fold
from relay.policy.patience import in_seconds

#: What this policy leaves for others: `passed` or `known`.
FACT: Final = "greylist"

_PASSED: Final = "passed"
#: A word with a digit in it. A long one is a number that machines have made, in whatever notation.
_WORD_WITH_DIGIT: Final = re.compile(r"[^\W\d_]*\d[^\W_]*")
_DIGITS: Final = re.compile(r"\d+")
_LONG_WORD: Final = 8
#: SRS (libsrs2) has a hash and a date in the address, which change from day to day.
_SRS: Final = ("srs0=", "srs0+", "srs0-", "srs1=", "srs1+", "srs1-")


class GreylistOptions(Section):
    """What `[[policy]] use = "greylist"` may say."""

    delay: Annotated[Duration, at_most(DAY)] = Field(
        default=300, description="How long who is new has to wait. Whoever comes again sooner hears the same."
    )
    window: Annotated[Duration, at_most(60 * DAY)] = Field(
        default=2 * DAY, description="How long they have for it. Whoever comes later is new again."
    )
    lifetime: Annotated[Duration, at_most(366 * DAY)] = Field(
        default=36 * DAY, description="How long somebody is known after their last mail."
    )
    known_after: Count = Field(
        default=5,
        description="A client of which so many senders and recipients have come again is known for all of them.",
    )
    ipv4: Annotated[int, Field(strict=True, ge=8, le=32)] = Field(
        default=24, description="How many bits of a client's IPv4 address count: large senders use many hosts."
    )
    ipv6: Annotated[int, Field(strict=True, ge=16, le=128)] = Field(
        default=64, description="How many bits of a client's IPv6 address count."
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.window <= self.delay:
            raise ValueError("'window' should be longer than 'delay', or nobody could ever come again in time")
        return self


@implementer(IRoutingPolicy)
class Greylist:
    """
    Goes by the network of the client, the sender and the recipient: a triple. Programs that do not come again are never
    seen again, and mail servers do.

    Not asked to come again is who has said who it is, and who comes by a Unix socket. A null sender is a sender.

    In the store, with a letter before each key: `t`, a triple, has the moment of its first coming, or that it has
    passed; `c`, a client's network, how many of its triples have.
    """

    Options = GreylistOptions
    provides = frozenset({FACT})

    def __init__(self, options: GreylistOptions, world: World) -> None:
        self._options = options
        self._store = world.store
        self._now = world.clock.now
        self._known = Note({FACT: "known"}, "the client is known")
        self._passed = Note({FACT: _PASSED}, "has come again")

    def route(self, inquiry: Inquiry) -> RoutingVerdict:
        client = inquiry.client
        # The members of an alias are nobody that the client has named.
        if client.address is None or client.user is not None or client == OURSELVES:
            return ABSTAIN
        if inquiry.recipient != inquiry.original:
            return ABSTAIN
        options = self._options
        network = network_of(client.address, options.ipv4, options.ipv6)
        count = self._passed_of(network)
        if count >= options.known_after:
            self._store.put(f"c {network}", str(count), options.lifetime)
            return self._known
        return self._triple(inquiry, network, count)

    def _triple(self, inquiry: Inquiry, network: str, count: int) -> RoutingVerdict:
        options, store, now = self._options, self._store, self._now()
        key = f"t {network} {sender_key(inquiry.reverse_path)} {_folded(inquiry.recipient)}"
        kept = store.get(key)
        if kept == _PASSED:
            store.put(key, _PASSED, options.lifetime)
            return self._passed
        first = None if kept is None else float(kept)
        # A first coming that lies ahead was written before the machine's clock was set back.
        if first is None or first > now:
            first, because = now, "new"
            store.put(key, str(now), options.window)
        else:
            because = f"waiting, first seen {now - first:.0f} s ago"
        left = first + options.delay - now
        if left > 0:
            text = f"greylisted, come again in {in_seconds(left)}"
            return Delay(about(inquiry.original, 450, "4.7.1", text), because)
        store.put(key, _PASSED, options.lifetime)
        store.put(f"c {network}", str(count + 1), options.lifetime)
        return self._passed

    def _passed_of(self, network: str) -> int:
        return int(self._store.get(f"c {network}") or 0)


def _folded(address: Address) -> str:
    return f"{fold(address.local)}@{address.domain}"


def sender_key(sender: Address | None) -> str:
    """
    A sender as it is the next time, too. Where each message has a reverse-path of its own (VERP, BATV, SRS) what
    changes are numbers, and words with numbers in them.
    """
    if sender is None:
        return "<>"
    local = fold(sender.local)
    if local.startswith(_SRS):
        return f"{local[:4]}@{sender.domain}"
    return f"{_WORD_WITH_DIGIT.sub(_without_digits, local)}@{sender.domain}"


def _without_digits(word: re.Match[str]) -> str:
    text = word[0]
    return "#" if len(text) >= _LONG_WORD else _DIGITS.sub("#", text)
