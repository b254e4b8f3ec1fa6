"""`use = "rate-limit"`: so many in a time, for each client, sender, recipient or user."""

import re
from collections.abc import Callable
from hashlib import sha256
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from attrs import frozen
from pydantic import BeforeValidator, Field, model_validator
from zope.interface import directlyProvides

from relay.config.fields import Count, Section
from relay.config.units import DAY, duration
from relay.interfaces import IConnectionPolicy, IRoutingPolicy, ISenderPolicy, World
from relay.mail.address import Address
from relay.mail.envelope import OURSELVES
from relay.mail.phases import ConnectionInquiry, SenderInquiry
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Abstention, Delay, Inquiry, Reject
from relay.policy.bucket import Bucket
from relay.policy.clients import network_of
from relay.policy.names import about, fold
from relay.policy.patience import in_seconds

Key = Literal["client", "sender", "sender-domain", "recipient", "user"]
Counted = Literal["connections", "messages", "recipients"]
Limited: TypeAlias = Delay | Reject | Literal[Abstention.ABSTAIN]
#: A question of a phase in which something is counted.
Asked: TypeAlias = ConnectionInquiry | SenderInquiry | Inquiry

_RATE: Final = re.compile(r"([0-9]{1,9}) ?/ ?([0-9].*|[smhd])\Z")
_NO_RATE: Final = "should be a number and a time, such as '100/1h' or '5/30s'"
#: A bucket that takes longer to fill is no limit of a rate, and the store keeps nothing for ever.
_SLOWEST: Final = 366 * DAY
#: In a second. More is no limit, and moments are not told apart much finer than that.
_FASTEST: Final = 1000
#: A longer key is kept as its digest: the store takes 1,000 characters.
_LONGEST_KEY: Final = 600


@frozen
class Rate:
    """So many in so many seconds."""

    count: int
    seconds: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """`100/1h`, `100/h`. Raises `ValueError`."""
        match = _RATE.match(text)
        if match is None or int(match[1]) == 0:
            raise ValueError(_NO_RATE)
        time = match[2]
        seconds = duration(time if time[0].isdigit() else f"1{time}")
        if seconds > _SLOWEST:
            raise ValueError("should be so many in a year at most")
        if int(match[1]) > _FASTEST * seconds:
            raise ValueError(f"should be {_FASTEST} in a second at most")
        return cls(int(match[1]), seconds)


def _rate(text: object) -> str:
    if not isinstance(text, str):
        raise ValueError(_NO_RATE)
    Rate.parse(text)
    return text


class RateLimitOptions(Section):
    """What `[[policy]] use = "rate-limit"` may say."""

    rate: Annotated[str, BeforeValidator(_rate)] = Field(
        description='How many in which time: `"100/1h"`, `"5/30s"`. They come back one by one, and not all at the end.'
    )
    by: Annotated[tuple[Key, ...], Field(min_length=1)] = Field(
        default=("client",),
        description="For each of what: `client` (its address; of IPv6 its network of 64 bits), `sender`, "
        "`sender-domain`, `recipient`, `user`. Of several: for each combination.",
    )
    count: Counted | None = Field(
        default=None,
        description="What is counted: `connections`, `messages` (MAIL) or `recipients` (RCPT). Without it `recipients` "
        "if `by` has `recipient`, `connections` if it is the client alone, and `messages` otherwise.",
    )
    burst: Count | None = Field(
        default=None, description="How many may come at once after a pause. Without it as many as the rate says."
    )
    over: Literal["delay", "reject"] = Field(
        default="delay", description="What becomes of those that are too many: they may come again later, or not."
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if len(set(self.by)) < len(self.by):
            raise ValueError("'by' should name each once")
        if self.counted == "connections" and self.by != ("client",):
            raise ValueError("connections can be counted by client alone: nobody else is known by then")
        if self.counted == "messages" and "recipient" in self.by:
            raise ValueError("messages cannot be counted by recipient, as nobody is named yet: count recipients")
        if self.bucket.interval * self.bucket.burst > _SLOWEST:
            raise ValueError("'burst' should be less: it would take more than a year to be full again")
        return self

    @property
    def counted(self) -> Counted:
        if self.count is not None:
            return self.count
        if "recipient" in self.by:
            return "recipients"
        return "connections" if self.by == ("client",) else "messages"

    @property
    def bucket(self) -> Bucket:
        rate = Rate.parse(self.rate)
        return Bucket(rate.seconds / rate.count, self.burst or rate.count)


class RateLimit:
    """
    A bucket for each key, which is kept until it is full again. Only what is let through here takes a token, so that
    who tries again and again is not kept out for ever.

    The relay's own notices are not counted, nor is what has no such key: a client at a Unix socket, nobody's mail where
    users are counted, notices where nothing but their sender is.

    It provides the interface of the one phase in which it counts.
    """

    Options = RateLimitOptions

    def __init__(self, options: RateLimitOptions, world: World) -> None:
        directlyProvides(self, _PHASES[options.counted])
        self._bucket = options.bucket
        self._rate = options.rate
        self._rejects = options.over == "reject"
        self._parts = tuple(_PARTS[key] for key in options.by)
        #: `<>` is everybody's: alone it is no key.
        self._null_too = not {"sender", "sender-domain"}.issuperset(options.by)
        self._store = world.store
        self._now = world.clock.now

    def connect(self, inquiry: ConnectionInquiry) -> Limited:
        return self._limited(inquiry, _from_connection)

    def sender(self, inquiry: SenderInquiry) -> Limited:
        return self._limited(inquiry, _from_sender)

    def route(self, inquiry: Inquiry) -> Limited:
        # The members of an alias are nobody that the client has named.
        return ABSTAIN if inquiry.recipient != inquiry.original else self._limited(inquiry, _for_recipient)

    def _limited(self, inquiry: Asked, say: "Saying") -> Limited:
        key = self._key(inquiry)
        if key is None:
            return ABSTAIN
        now = self._now()
        bucket = self._bucket
        kept = self._store.get(key)
        full = now if kept is None else float(kept)
        seconds = bucket.wait(full, now)
        if not seconds:
            full = bucket.after(full, now)
            self._store.put(key, str(full), full - now)
            return ABSTAIN
        because = f"more than {self._rate} of {key}"
        if self._rejects:
            return Reject(say(inquiry, True, "too many, over the limit"), because)
        return Delay(say(inquiry, False, f"too many, come again in {in_seconds(seconds)}"), because)

    def _key(self, inquiry: Asked) -> str | None:
        if inquiry.client == OURSELVES:
            return None
        values = []
        for part in self._parts:
            value = part(inquiry)
            if value is None or (value == "<>" and not self._null_too):
                return None
            values.append(value)
        key = " ".join(values)
        return key if len(key) <= _LONGEST_KEY else sha256(key.encode()).hexdigest()


def _client(inquiry: Any) -> str | None:
    address: str | None = inquiry.client.address
    return None if address is None else network_of(address, 32, 64)


def _folded(address: Address) -> str:
    return f"{fold(address.local)}@{address.domain}"


def _sender(inquiry: Any) -> str:
    return "<>" if inquiry.reverse_path is None else _folded(inquiry.reverse_path)


def _sender_domain(inquiry: Any) -> str:
    return "<>" if inquiry.reverse_path is None else str(inquiry.reverse_path.domain)


def _recipient(inquiry: Any) -> str:
    return _folded(inquiry.recipient)


def _user(inquiry: Any) -> str | None:
    user: str | None = inquiry.client.user
    return user


_PARTS: Final[dict[str, Callable[[Any], str | None]]] = {
    "client": _client,
    "sender": _sender,
    "sender-domain": _sender_domain,
    "recipient": _recipient,
    "user": _user,
}
_PHASES: Final = {"connections": IConnectionPolicy, "messages": ISenderPolicy, "recipients": IRoutingPolicy}

#: A reply to this question, for good or not, with this text. Each command has its codes (RFC 5321 section 4.3.2).
Saying: TypeAlias = Callable[[Any, bool, str], Reply]


def _from_connection(_: ConnectionInquiry, for_good: bool, text: str) -> Reply:
    return Reply.of(554, "5.7.1", text) if for_good else Reply.of(421, "4.7.1", text)


def _from_sender(_: SenderInquiry, for_good: bool, text: str) -> Reply:
    return Reply.of(550, "5.7.1", text) if for_good else Reply.of(451, "4.7.1", text)


def _for_recipient(inquiry: Inquiry, for_good: bool, text: str) -> Reply:
    code, status = (550, "5.7.1") if for_good else (450, "4.7.1")
    return about(inquiry.original, code, status, text)
