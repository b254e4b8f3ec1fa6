"""`use = "srs"`: what comes back to the reverse-paths that `forward` has made by SRS."""

from pydantic import Field
from zope.interface import implementer

from relay.config.fields import Count, Domain, Place
from relay.interfaces import IRoutingPolicy, World
from relay.mail.routing import ABSTAIN, Inquiry, Reject, Rewrite, RoutingVerdict
from relay.mail.srs import Unfit
from relay.policy.names import about
from relay.policy.onward import Onward, WayOptions
from relay.policy.secret import srs_of


class SrsOptions(WayOptions):
    """What `[[policy]] use = "srs"` may say."""

    domain: Domain = Field(description="The domain of the reverse-paths, as `forward` has it in `srs`.")
    secret_file: Place = Field(description="The file with the secret, as `forward` has it in `srs`.")
    days: Count = Field(default=21, le=1000, description="For how many days an address is good.")


@implementer(IRoutingPolicy)
class SrsPolicy:
    """
    Asked about an address that was made here it says who stands behind it, and asked about who stands there, if no
    policy before it knows better, it hands the copy onward: such an address is a permission to write to one sender.
    """

    Options = SrsOptions
    routes = True

    def __init__(self, options: SrsOptions, world: World) -> None:
        self._srs = srs_of(options.domain, options.secret_file, options.days)
        self._way = Onward(options)
        self._clock = world.clock

    def route(self, inquiry: Inquiry) -> RoutingVerdict:
        if inquiry.recipient == inquiry.original or inquiry.recipient.domain == self._srs.domain:
            return self._behind(inquiry)
        # What has been let in may wait for longer than its address is good.
        if self._srs.signed(inquiry.original) == inquiry.recipient:
            return self._way.to(inquiry.recipient)
        return ABSTAIN

    def _behind(self, inquiry: Inquiry) -> RoutingVerdict:
        found = self._srs.original(inquiry.recipient, self._clock.now())
        if found is None:
            return ABSTAIN
        if isinstance(found, Unfit):
            reply = about(inquiry.recipient, 550, "5.1.1", f"no such address: {found.value}")
            return Reject(reply, f"SRS: {found.value}")
        return Rewrite((found,), because=f"SRS of {self._srs.domain}")
