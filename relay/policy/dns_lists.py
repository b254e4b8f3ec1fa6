"""Asking lists in the DNS about a client or a name: what `dnsbl` and `dnswl` share."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias

from attrs import frozen
from pydantic import AfterValidator, Field
from twisted.internet.defer import Deferred, gatherResults

from relay.config.fields import Factor, HostName, Section, Word
from relay.config.units import HOUR, Duration, at_most
from relay.interfaces import World
from relay.mail.address import AddressError, canonical_domain
from relay.mail.answer import Absent, Answer, Found, Unanswered
from relay.mail.envelope import Client
from relay.mail.facts import Facts
from relay.mail.phases import SenderInquiry
from relay.net.waiting import start
from relay.policy.clients import is_public, plain
from relay.policy.list_answers import Meaning, Pattern, meaning, reversed_address
from relay.policy.resolving import LookUps

#: 64 characters are an IPv6 client's, and a name in the DNS has 253.
_LONGEST_ZONE: Final = 180
_LONGEST_DOMAIN: Final = 253
#: How much of what a list says of somebody its client is told.
_LONGEST_TEXT: Final = 200
#: How often it is said that something is wrong with a list.
_AGAIN: Final = HOUR

#: Whom the lists are asked about.
Subject: TypeAlias = Literal["client", "sender", "helo"]


def _short(zone: str) -> str:
    if len(zone) > _LONGEST_ZONE:
        raise ValueError(f"should be at most {_LONGEST_ZONE} characters")
    return zone


def _weighs(weight: float) -> float:
    if not weight or abs(weight) > 1000:
        raise ValueError("should be a number from -1000 to 1000, and not 0")
    return weight


def _pattern(text: str) -> str:
    Pattern.parse(text)
    return text


Weight = Annotated[Factor, AfterValidator(_weighs)]


class ListSettings(Section):
    """One list."""

    zone: Annotated[HostName, AfterValidator(_short)] = Field(description="The list's domain.")
    name: Word = Field(
        default="",
        description="What clients and facts call it. Without it its domain, which should not be seen if it has a key.",
    )
    weight: Weight = Field(
        default=1, description="What is added to the score of whoever is listed. Below 0: it is in favour of him."
    )
    answers: tuple[Annotated[str, AfterValidator(_pattern)], ...] = Field(
        default=(),
        description="Which answers count: addresses such as `127.0.0.2`, with ranges such as `127.0.0.[2-11]`. Without "
        "it all of 127.0.0.0/8 do, but for the errors of 127.255.255.0/24.",
    )


class ListsOptions(Section):
    """What all policies say that ask lists."""

    lists: tuple[ListSettings, ...] = Field(
        min_length=1, max_length=50, description="The lists. They are all asked at the same time."
    )
    of: Subject = Field(
        default="client",
        description="Whom they are asked about: the address of the `client`, before it is greeted; at MAIL, the domain "
        "of the `sender`, or the name that the client has said in `helo`.",
    )
    patience: Annotated[Duration, at_most(60)] = Field(
        default=4, description="How long lists are waited for, together. One that has not answered by then counts 0."
    )


@frozen
class DnsList:
    """A list, as it is asked."""

    zone: str
    name: str
    weight: float
    patterns: tuple[Pattern, ...]


@frozen
class Whom:
    """Who is asked about."""

    #: What stands before a list's domain.
    label: str
    #: In words.
    told: str


@frozen
class Consulted:
    """What the lists have said about somebody."""

    whom: Whom
    listed: tuple[DnsList, ...]
    #: Those that have not answered.
    silent: tuple[DnsList, ...]

    @property
    def score(self) -> float:
        return sum(each.weight for each in self.listed)

    @property
    def names(self) -> str:
        return ", ".join(dict.fromkeys(each.name for each in self.listed))

    @property
    def because(self) -> str:
        """For the operator."""
        said = f"is listed by {self.names}: {self.score:g}" if self.listed else "is not listed"
        missing = ", ".join(each.name for each in self.silent)
        return f"{self.whom.told} {said}{f'; no answer from {missing}' if missing else ''}"

    def facts(self, name: str) -> Facts:
        if self.listed:
            found = "listed"
        else:
            found = "unsure" if self.silent else "none"
        return Facts({name: found, f"{name}.score": f"{self.score:g}", f"{name}.lists": self.names[:1000]})


def known_facts(name: str) -> frozenset[str]:
    """What `Consulted.facts` has."""
    return frozenset((name, f"{name}.score", f"{name}.lists"))


def of_client(client: Client) -> Whom | None:
    """Nobody, where the address is not one of the Internet: no list knows such a client."""
    if client.address is None or not is_public(client.address):
        return None
    return Whom(reversed_address(plain(client.address)), client.address)


def at_mail(of: Subject, inquiry: SenderInquiry) -> Whom | None:
    """Whom lists of senders, or of names, are asked about. Nobody, where no list could know him."""
    return _of_sender(inquiry) if of == "sender" else _of_hello(inquiry)


def _of_sender(inquiry: SenderInquiry) -> Whom | None:
    path = inquiry.reverse_path
    if path is None or path.is_literal:
        return None
    return Whom(path.domain, f"the sender's domain {path.domain}")


def _of_hello(inquiry: SenderInquiry) -> Whom | None:
    """What is no name, or one without a domain, is in no list."""
    try:
        name = canonical_domain(inquiry.client.helo or "")
    except AddressError:
        return None
    if name.startswith("[") or "." not in name or name.replace(".", "").isdigit():
        return None
    return Whom(name, f"the name {name}")


class Lists:
    """
    The lists of one policy.

    What they answer counts for nothing if it cannot be meant: where an answer is an error, or nobody's word about
    anybody (`Meaning.FOREIGN`), nobody is listed, and the log says so, at most once an hour for each list.
    """

    def __init__(self, options: ListsOptions, world: World) -> None:
        self._lists = tuple(
            DnsList(each.zone, each.name or each.zone, each.weight, tuple(map(Pattern.parse, each.answers)))
            for each in options.lists
        )
        self._world = world
        self._patience = options.patience

    def about(self, whom: Whom) -> "Consultation":
        """To ask about somebody."""
        return Consultation(self._lists, whom, self._world, self._patience)


class Consultation:
    """All lists, asked about somebody, for no longer than they may be waited for."""

    def __init__(self, lists: Sequence[DnsList], whom: Whom, world: World, patience: float) -> None:
        self._lists = [each for each in lists if len(whom.label) + len(each.zone) < _LONGEST_DOMAIN]
        self._whom = whom
        self._world = world
        self._look_ups = LookUps(world.resolver, world.clock, patience)

    async def ask(self) -> Consulted:
        """What they say."""
        answers: dict[str, Answer] = {}
        awaited: dict[str, Deferred[Any]] = {}
        for zone in dict.fromkeys(each.zone for each in self._lists):
            answer: Any = start(self._look_ups.look_up(f"{self._whom.label}.{zone}", "A"))
            if isinstance(answer, Deferred):
                awaited[zone] = answer
            else:
                answers[zone] = answer
        if awaited:
            came = await gatherResults(awaited.values(), consumeErrors=True)
            answers.update(zip(awaited, came, strict=True))
        listed = tuple(each for each in self._lists if self._is_listed(each, answers[each.zone]))
        silent = tuple(each for each in self._lists if isinstance(answers[each.zone], Unanswered))
        return Consulted(self._whom, listed, silent)

    async def text(self, listed: DnsList) -> str:
        """Why somebody is listed, as the list puts it (RFC 5782 section 2.1), or ""."""
        match await self._look_ups.look_up(f"{self._whom.label}.{listed.zone}", "TXT"):
            case Found((str(text), *_)):
                return " ".join(text.split())[:_LONGEST_TEXT]
            case _:
                return ""

    def _is_listed(self, each: DnsList, answer: Answer) -> bool:
        match answer:
            case Found(records):
                found = meaning([str(record) for record in records], each.patterns)
                if found in (Meaning.ERROR, Meaning.FOREIGN):
                    self._say(each, f"has answered {', '.join(map(str, records))}, which is {found.value}")
                return found is Meaning.LISTED
            case Unanswered(why):
                self._say(each, f"has not answered ({why})")
                return False
            case Absent():
                return False

    def _say(self, each: DnsList, what: str) -> None:
        key = f"said {each.zone}"
        if self._world.store.get(key) is None:
            # Not what: whoever reads an account an hour later would take it for the answer to this question.
            self._world.store.put(key, "yes", _AGAIN)
            self._world.log.warn(
                "The list {list} {what}: it counts for nothing; this is said once an hour",
                list=each.name,
                what=what,
            )
