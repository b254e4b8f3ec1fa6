"""`use = "sender-domain"`: whether a notice could be sent back to where mail says that it comes from."""

from enum import Enum
from typing import Annotated, Final, Literal

from attrs import frozen
from pydantic import Field
from zope.interface import implementer

from relay.config.fields import Section
from relay.config.units import Duration, at_most
from relay.interfaces import ISenderPolicy, World
from relay.mail.answer import Absent, Exchange, Found, Unanswered
from relay.mail.phases import SenderInquiry, SenderVerdict
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Delay, Note, Reject
from relay.policy.clients import is_public
from relay.policy.resolving import LookUps

#: What this policy leaves for others: the value of a `Finding`.
FACT: Final = "sender-domain"
#: Exchangers of a domain that are looked at, the best first. The list is the domain's, the work ours.
_MOST_HOSTS: Final = 5

Action = Literal["reject", "delay", "note"]


class Finding(Enum):
    """What there is to be said of a domain."""

    OK = "ok"
    #: It does not exist, or has neither MX records nor addresses, or its exchangers have none.
    NONEXISTENT = "nonexistent"
    #: It says that it takes no mail (RFC 7505).
    NULL_MX = "null-mx"
    #: It leads to addresses that nobody far away has, and no others.
    PRIVATE = "private"
    #: It is an address, and no domain.
    LITERAL = "literal"
    #: The DNS has not said.
    UNSURE = "unsure"


#: What the sender's server is told: RFC 3463 section 3.2 and RFC 7505 section 4.2, and if it may try again.
_STATUSES: Final = {
    Finding.NONEXISTENT: ("1.8", "the sender's domain {domain} does not exist, or takes no mail"),
    Finding.NULL_MX: ("7.27", "the sender's domain {domain} says that it takes no mail"),
    Finding.PRIVATE: ("1.8", "the sender's domain {domain} leads to no public address"),
    Finding.LITERAL: ("1.8", "the sender's address has no domain"),
    Finding.UNSURE: ("4.3", "the sender's domain {domain} cannot be looked up now"),
}


class SenderDomainOptions(Section):
    """What `[[policy]] use = "sender-domain"` may say."""

    nonexistent: Action = Field(
        default="reject",
        description="What is done about a domain that has neither exchangers nor an address: `reject` (550 5.1.8), "
        "`delay` (451 4.1.8) or `note`, which leaves a fact for other policies and no more.",
    )
    null_mx: Action = Field(
        default="reject", description="The same, about a domain that says that it takes no mail (RFC 7505): 550 5.7.27."
    )
    private: Action = Field(
        default="reject", description="About one that leads to private or loopback addresses and no others: 550 5.1.8."
    )
    literal: Action = Field(
        default="note", description="About an address in the place of a domain, `ann@[192.0.2.1]`: 550 5.1.8."
    )
    unsure: Literal["delay", "accept"] = Field(
        default="delay", description="Where the DNS does not answer: 451 4.4.3, or nothing speaks against it."
    )
    patience: Annotated[Duration, at_most(60)] = Field(
        default=8, description="How long the DNS is waited for. It should be less than the policy's `timeout`."
    )


@frozen
class Result:
    """A finding, and what it comes from, for people."""

    finding: Finding
    because: str


@implementer(ISenderPolicy)
class SenderDomain:
    """
    Looks for a way back to the sender: MX records, or an address where there are none (RFC 5321 section 5.1).

    It has no opinion on mail without a reverse-path.
    """

    Options = SenderDomainOptions
    provides = frozenset({FACT})

    def __init__(self, options: SenderDomainOptions, world: World) -> None:
        self._actions: dict[Finding, str] = {
            Finding.NONEXISTENT: options.nonexistent,
            Finding.NULL_MX: options.null_mx,
            Finding.PRIVATE: options.private,
            Finding.LITERAL: options.literal,
            Finding.UNSURE: options.unsure,
        }
        self._resolver = world.resolver
        self._clock = world.clock
        self._patience = options.patience

    async def sender(self, inquiry: SenderInquiry) -> SenderVerdict:
        if inquiry.reverse_path is None:
            return ABSTAIN
        domain = inquiry.reverse_path.domain
        if inquiry.reverse_path.is_literal:
            result = _of_literal(domain)
        else:
            result = await _of_domain(domain, LookUps(self._resolver, self._clock, self._patience))
        match self._actions.get(result.finding):
            case "reject":
                return Reject(_reply(550, "5", domain, result.finding), result.because)
            case "delay":
                return Delay(_reply(451, "4", domain, result.finding), result.because)
            case _:
                return Note({FACT: result.finding.value}, result.because)


def _reply(code: int, kind: str, domain: str, finding: Finding) -> Reply:
    status, text = _STATUSES[finding]
    return Reply.saying(code, f"{kind}.{status}", text.format(domain=domain))


def _of_literal(domain: str) -> Result:
    address = domain[1:-1].removeprefix("IPv6:")
    if is_public(address):
        return Result(Finding.LITERAL, f"{domain} is an address")
    return Result(Finding.PRIVATE, f"{domain} is not public")


async def _of_domain(domain: str, look_ups: LookUps) -> Result:
    match await look_ups.look_up(domain, "MX"):
        case Found(records):
            exchanges = sorted(record for record in records if isinstance(record, Exchange))
            hosts = [exchange.exchanger for exchange in exchanges if exchange.exchanger]
            if not hosts:
                return Result(Finding.NULL_MX, f"{domain} has a null MX")
            return await _of_hosts(domain, hosts[:_MOST_HOSTS], look_ups)
        case Absent(nonexistent):
            if nonexistent:
                return Result(Finding.NONEXISTENT, f"there is no {domain}")
            return await _of_hosts(domain, [domain], look_ups)
        case Unanswered(why):
            return Result(Finding.UNSURE, f"{domain} MX: {why}")


async def _of_hosts(domain: str, hosts: list[str], look_ups: LookUps) -> Result:
    """The first public address is enough."""
    unanswered, other = "", ""
    for host in hosts:
        found = await look_ups.addresses(host)
        for address in found.addresses:
            if is_public(address):
                return Result(Finding.OK, f"{host} is {address}")
            other = f"{host} is {address}"
        unanswered = unanswered or found.unanswered
    if unanswered:
        return Result(Finding.UNSURE, unanswered)
    if other:
        return Result(Finding.PRIVATE, other)
    what = "has neither MX nor address" if hosts == [domain] else "has exchangers, and none has an address"
    return Result(Finding.NONEXISTENT, f"{domain} {what}")
