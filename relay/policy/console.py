"""`use = "console"`: show mail on the terminal instead of carrying it anywhere."""

from zope.interface import implementer

from relay.config.fields import Section
from relay.interfaces import IRoutingPolicy, World
from relay.mail.routing import Deliver, Inquiry, RoutingVerdict


class ConsoleOptions(Section):
    """What `[[policy]] use = "console"` may say: nothing of its own."""


@implementer(IRoutingPolicy)
class Console:
    """Hands every copy that it is asked about to the agent `console`, which prints it."""

    Options = ConsoleOptions

    def __init__(self, options: ConsoleOptions, world: World) -> None:
        self._verdict = Deliver("console", because="shown on the console")

    def route(self, inquiry: Inquiry) -> RoutingVerdict:
        return self._verdict
