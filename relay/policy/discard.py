"""`use = "discard"`: accept mail and throw it away."""

from zope.interface import implementer

from relay.config.fields import Section
from relay.interfaces import IRoutingPolicy, World
from relay.mail.routing import Discard, Inquiry, RoutingVerdict


class DiscardOptions(Section):
    """What `[[policy]] use = "discard"` may say: nothing of its own."""


@implementer(IRoutingPolicy)
class DiscardAll:
    """Throws every copy away that it is asked about. The sender hears 250, and the mail log says what happened."""

    Options = DiscardOptions

    def __init__(self, options: DiscardOptions, world: World) -> None:
        self._verdict = Discard(because="the configuration says so")

    def route(self, inquiry: Inquiry) -> RoutingVerdict:
        return self._verdict
