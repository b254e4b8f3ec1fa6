"""`use = "dnswl"`: clients, senders and names that lists in the DNS speak for (RFC 5782)."""

from typing import Literal

from pydantic import Field
from zope.interface import directlyProvides

from relay.config.fields import Factor, Word
from relay.interfaces import IConnectionPolicy, ISenderPolicy, World
from relay.mail.phases import ConnectionInquiry, SenderInquiry
from relay.mail.routing import ABSTAIN, Abstention, Accept, Note
from relay.policy.dns_lists import Lists, ListsOptions, Whom, at_mail, known_facts, of_client


class DnswlOptions(ListsOptions):
    """What `[[policy]] use = "dnswl"` may say."""

    accept: Factor | Literal["never"] = Field(
        default=1, description="The score from which the policies behind this one are not asked in the same phase."
    )
    fact: Word = Field(
        default="dnswl",
        max_length=50,
        description="What the facts are called that are left: this one is `listed`, `none`, or `unsure` if a list has "
        "not answered; with `.score` behind it, the score; with `.lists`, the lists' names.",
    )


class Dnswl:
    """
    Lets those pass whom lists speak for: by the policies behind it in its phase, and by no others.

    It provides the interface of the one phase in which that can be asked.
    """

    Options = DnswlOptions

    def __init__(self, options: DnswlOptions, world: World) -> None:
        directlyProvides(self, IConnectionPolicy if options.of == "client" else ISenderPolicy)
        self.provides = known_facts(options.fact)
        self._lists = Lists(options, world)
        self._of = options.of
        self._accept = options.accept
        self._fact = options.fact

    async def connect(self, inquiry: ConnectionInquiry) -> "Judgement":
        return await self._judged(of_client(inquiry.client))

    async def sender(self, inquiry: SenderInquiry) -> "Judgement":
        return await self._judged(at_mail(self._of, inquiry))

    async def _judged(self, whom: Whom | None) -> "Judgement":
        if whom is None:
            return ABSTAIN
        consulted = await self._lists.about(whom).ask()
        facts = consulted.facts(self._fact)
        if consulted.listed and self._accept != "never" and consulted.score >= self._accept:
            return Accept(consulted.because, facts)
        return Note(facts, consulted.because)


#: What it says in either phase.
Judgement = Accept | Note | Literal[Abstention.ABSTAIN]
