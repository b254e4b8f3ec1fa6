"""`use = "forward"`: hand mail onward, as the DNS says or to a host that the operator names."""

from collections.abc import Callable
from typing import Self

from attrs import evolve
from pydantic import Field, model_validator
from zope.interface import implementer

from relay.config.fields import Domain, Place, Section, Yes
from relay.interfaces import IRoutingPolicy, World
from relay.mail.address import Address
from relay.mail.routing import ABSTAIN, Forward, Inquiry, RoutingVerdict
from relay.mail.verp import verp
from relay.policy.hops import Hops, HopsMakeSense
from relay.policy.lookup import TableOptions
from relay.policy.onward import Onward, WayOptions
from relay.policy.secret import srs_of


class SrsSettings(Section):
    """`srs` of a policy."""

    domain: Domain = Field(description="The domain of the new reverse-paths. Its mail comes to this relay.")
    secret_file: Place = Field(description="A file with the secret.")
    own: tuple[Domain, ...] = Field(default=(), description="Domains in whose name this relay may send anyway.")


class ForwardOptions(WayOptions, TableOptions):
    """What `[[policy]] use = "forward"` may say. With a table it has no opinion on who does not stand there."""

    verp: Yes = Field(
        default=False,
        description="Whether each recipient has a reverse-path of its own: `news+bob=example.net@example.org` for "
        "`news@example.org`. For lists.",
    )
    srs: SrsSettings | None = Field(
        default=None,
        description="Reverse-paths in a domain of ours (SRS), for mail that is passed on in the name of others: "
        '`{ domain = "srs.example.org", secret_file = "srs.secret" }`, and `own`, a list of domains that are left as '
        "they are.",
    )

    @model_validator(mode="after")
    def _replaces_one_way(self) -> Self:
        if self.verp and self.srs is not None:
            raise ValueError("'verp' is for senders of ours and 'srs' for those of others: not both at once")
        if self.srs is not None and self.protocol == "lmtp":
            raise ValueError("'srs' is for mail that goes onward: a mailbox should have the sender's own address")
        if self.next_hop is not None and self.table_or_file is not None:
            raise ValueError("should have either a 'next_hop' for all or a table of them")
        return self

    @property
    def names_hosts(self) -> bool:
        return self.next_hop is not None or self.table_or_file is not None


@implementer(IRoutingPolicy)
class ForwardAll:
    """
    Hands every copy onward that it is asked about; with a table, every one whose recipient stands there. `when` says
    whose mail that is: without it, everyone's.
    """

    Options = ForwardOptions
    routes = True

    def __init__(self, options: ForwardOptions, world: World) -> None:
        self._way = Onward(options)
        self._to: Callable[[Address], Forward | None] = self._way.to
        if options.table_or_file is not None:
            check = HopsMakeSense(
                options.protocol == "lmtp", options.tls in ("encrypt", "verify"), bool(options.source)
            )
            self._to = Hops(world.table(options.table_or_file).checked(check), self._way).to
        self._sender = Replacing(options, world)
        self._replaces = options.verp or options.srs is not None

    def route(self, inquiry: Inquiry) -> RoutingVerdict:
        verdict = self._to(inquiry.recipient)
        if verdict is None:
            return ABSTAIN
        path = self._sender.instead(inquiry) if self._replaces else None
        return verdict if path is None else evolve(verdict, reverse_path=path)


class Replacing:
    """The reverse-path that a copy has from here on, by these options."""

    def __init__(self, options: ForwardOptions, world: World) -> None:
        """Raises `ValueError` with words for the operator."""
        self._verp = options.verp
        self._srs = None if options.srs is None else srs_of(options.srs.domain, options.srs.secret_file)
        self._own = frozenset(() if options.srs is None else options.srs.own)
        self._clock = world.clock

    def instead(self, inquiry: Inquiry) -> Address | None:
        """`None`: as it is. There is nothing in the place of the null reverse-path."""
        sender = inquiry.reverse_path
        if sender is None or sender.domain in self._own:
            return None
        if self._verp:
            return verp(sender, inquiry.recipient)
        return None if self._srs is None else self._srs.rewritten(sender, self._clock.now())
