"""`use = "dnsbl"`: clients, senders and names of which lists in the DNS have nothing good to say (RFC 5782)."""

from typing import Literal

from pydantic import Field
from zope.interface import directlyProvides

from relay.config.fields import Factor, Word, Yes
from relay.interfaces import IConnectionPolicy, ISenderPolicy, World
from relay.mail.phases import ConnectionInquiry, SenderInquiry
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Abstention, Delay, Note, Reject
from relay.policy.dns_lists import Consultation, Consulted, Lists, ListsOptions, Whom, at_mail, known_facts, of_client


class DnsblOptions(ListsOptions):
    """What `[[policy]] use = "dnsbl"` may say."""

    reject: Factor | Literal["never"] = Field(
        default=1, description="The score from which it is refused: 550 5.7.1, or 554 in the place of the greeting."
    )
    delay: Factor | Literal["never"] = Field(
        default="never",
        description="The score from which it is asked to come again: 450 4.7.1, or 421 in the place of the greeting.",
    )
    text: Yes = Field(default=True, description="Whether the client is told what the list says of it (its TXT record).")
    fact: Word = Field(
        default="dnsbl",
        max_length=50,
        description="What the facts are called that are left: this one is `listed`, `none`, or `unsure` if a list has "
        "not answered; with `.score` behind it, the score; with `.lists`, the lists' names.",
    )


class Dnsbl:
    """
    Adds up what lists say of somebody.

    It provides the interface of the one phase in which that can be asked. It has no opinion on clients that are not on
    the Internet, and on mail without a sender.
    """

    Options = DnsblOptions

    def __init__(self, options: DnsblOptions, world: World) -> None:
        directlyProvides(self, IConnectionPolicy if options.of == "client" else ISenderPolicy)
        self.provides = known_facts(options.fact)
        self._lists = Lists(options, world)
        self._of = options.of
        self._reject = options.reject
        self._delay = options.delay
        self._tells = options.text
        self._fact = options.fact

    async def connect(self, inquiry: ConnectionInquiry) -> "Judgement":
        return await self._judged(of_client(inquiry.client))

    async def sender(self, inquiry: SenderInquiry) -> "Judgement":
        return await self._judged(at_mail(self._of, inquiry))

    async def _judged(self, whom: Whom | None) -> "Judgement":
        if whom is None:
            return ABSTAIN
        consultation = self._lists.about(whom)
        consulted = await consultation.ask()
        if not consulted.listed:
            return Note(consulted.facts(self._fact), consulted.because)
        if self._reject != "never" and consulted.score >= self._reject:
            return Reject(await self._reply(550, "5.7.1", consulted, consultation), consulted.because)
        if self._delay != "never" and consulted.score >= self._delay:
            return Delay(await self._reply(450, "4.7.1", consulted, consultation), consulted.because)
        return Note(consulted.facts(self._fact), consulted.because)

    async def _reply(self, code: int, status: str, consulted: Consulted, consultation: Consultation) -> Reply:
        against = [each for each in consulted.listed if each.weight > 0] or list(consulted.listed)
        names = ", ".join(dict.fromkeys(each.name for each in against))
        why = await consultation.text(max(against, key=lambda each: each.weight)) if self._tells else ""
        return Reply.saying(code, status, f"{consulted.whom.told} is listed by {names}{f': {why}' if why else ''}")


#: What it says in either phase.
Judgement = Reject | Delay | Note | Literal[Abstention.ABSTAIN]
