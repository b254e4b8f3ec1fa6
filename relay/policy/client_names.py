"""`use = "client-names"`: what a client is called, by the DNS and by itself."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field
from zope.interface import implementer

from relay.config.fields import HostName, Network, Section
from relay.config.units import Duration, at_most
from relay.interfaces import IConnectionPolicy, ISenderPolicy, World
from relay.mail.envelope import Client
from relay.mail.phases import ConnectionInquiry, ConnectionVerdict, SenderInquiry, SenderVerdict
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Delay, Note, Reject
from relay.policy.client_checks import Check, Seen
from relay.policy.clients import plain
from relay.policy.guard import Networks
from relay.policy.hello import Hello, Ours
from relay.policy.resolving import LookUps
from relay.policy.reverse_names import Pattern, ReverseNames, pattern

Action = Literal["reject", "delay", "note", "ignore"]

#: What the client is told: RFC 7372 section 3.3 for its name in the DNS, and that policy does not want it for the rest.
_STATUSES: Final = {
    Check.RDNS_MISSING: ("7.25", "your address has no name in the DNS"),
    Check.RDNS_UNCONFIRMED: ("7.25", "the name of your address in the DNS does not lead back to it"),
    Check.RDNS_GENERIC: ("7.1", "the name of your address in the DNS is not that of a mail server"),
    Check.HELO_MALFORMED: ("7.1", "what you said with HELO is no full name of a host"),
    Check.HELO_OURS: ("7.1", "what you said with HELO is our name and not yours"),
    Check.HELO_UNRESOLVED: ("7.1", "what you said with HELO does not exist"),
    Check.HELO_MISMATCH: ("7.1", "what you said with HELO is not your address"),
    Check.UNSURE: ("4.3", "your name cannot be looked up now"),
}


class ClientNamesOptions(Section):
    """What `[[policy]] use = "client-names"` may say."""

    rdns_missing: Action = Field(
        default="note",
        description="What is done about a client whose address has no name in the DNS: `reject`, `delay`, `note` (a "
        "fact for other policies, and no more), or `ignore`, which does not even look.",
    )
    rdns_unconfirmed: Action = Field(
        default="note", description="About one none of whose names has this address (forward-confirmed reverse DNS)."
    )
    rdns_generic: Action = Field(default="note", description="About one whose name looks like one of `generic`.")
    generic: tuple[Annotated[str, AfterValidator(pattern)], ...] = Field(
        default=(),
        description='How names look that nobody has given to a mail server: `"*.dyn.*"`, `"dsl-*"`. `*` is any '
        "characters, `?` is one.",
    )
    helo_malformed: Action = Field(
        default="note", description="About HELO or EHLO with neither a full name (with a dot) nor an address literal."
    )
    helo_ours: Action = Field(default="reject", description="About a stranger who says a name or an address of ours.")
    helo_unresolved: Action = Field(
        default="note", description="About a name with HELO that has neither an address nor MX records."
    )
    helo_mismatch: Action = Field(
        default="note", description="About an address literal with HELO that is not the client's address."
    )
    names: tuple[HostName, ...] = Field(default=(), description="Our own names, beside `hostname`.")
    addresses: tuple[Network, ...] = Field(
        default=(), description="Our own addresses, also those by which others know us. Loopback always is."
    )
    unsure: Literal["delay", "accept"] = Field(
        default="accept",
        description="Where the DNS does not answer and a check would refuse: the client may come again later (4.4.3), "
        "or nothing speaks against it.",
    )
    patience: Annotated[Duration, at_most(60)] = Field(
        default=8, description="How long the DNS is waited for. It should be less than the policy's `timeout`."
    )


@implementer(IConnectionPolicy, ISenderPolicy)
class ClientNames:
    """
    Looks at the names of the client's address when it connects, and at what it has said with HELO when it says MAIL.

    What it said matters only of a client that has not said who it is by AUTH: a mail reader does not know its name.
    """

    Options = ClientNamesOptions
    provides = frozenset({"rdns", "fcrdns", "rdns.generic", "helo"})

    def __init__(self, options: ClientNamesOptions, world: World) -> None:
        self._actions: dict[Check, str] = {
            check: getattr(options, check.value) for check in Check if check is not Check.UNSURE
        }
        asked = frozenset(check for check, action in self._actions.items() if action != "ignore")
        #: Whether a look at the DNS that comes to nothing may make a difference.
        self._refusing = {check for check, action in self._actions.items() if action in ("reject", "delay")}
        self._delays = options.unsure == "delay"
        self._reverse = ReverseNames(asked, tuple(map(Pattern, options.generic)))
        ours = Ours(frozenset({world.hostname, *options.names}), Networks(options.addresses))
        self._hello = Hello(asked, ours)
        self._world = world
        self._patience = options.patience

    async def connect(self, inquiry: ConnectionInquiry) -> ConnectionVerdict:
        address = inquiry.client.address
        if address is None or not self._reverse.wanted:
            return ABSTAIN
        return self._verdict(await self._reverse.look(plain(address), self._look_ups()), 554, 421)

    async def sender(self, inquiry: SenderInquiry) -> SenderVerdict:
        client: Client = inquiry.client
        if client.user is not None or not self._hello.wanted:
            return ABSTAIN
        return self._verdict(await self._hello.look(client.helo, client.address, self._look_ups()), 550, 451)

    def _look_ups(self) -> LookUps:
        return LookUps(self._world.resolver, self._world.clock, self._patience)

    def _verdict(self, seen: Seen, refusing: int, delaying: int) -> Reject | Delay | Note:
        """The strictest of what its findings come to; the first of them where several are."""
        actions = [self._action(check, seen) for check, _ in seen.findings]
        for action in ("reject", "delay"):
            if action not in actions:
                continue
            check, because = seen.findings[actions.index(action)]
            status, text = _STATUSES[check]
            if action == "reject":
                return Reject(Reply.of(refusing, f"5.{status}", text), because)
            return Delay(Reply.of(delaying, f"4.{status}", text), because)
        return Note(seen.facts, "; ".join(because for _, because in seen.findings))

    def _action(self, check: Check, seen: Seen) -> str:
        if check is Check.UNSURE:
            return "delay" if self._delays and not self._refusing.isdisjoint(seen.open) else "note"
        return self._actions[check]
