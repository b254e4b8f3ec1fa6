"""
Policies. Each phase has an interface of its own, and a policy provides those in which it has something to say. In
each of them all policies are asked in the order of the configuration, as far as their guard (`when`) holds.

What holds for all of them: an answer may wait, no longer than the policy's `timeout`. An exception, a timeout, or
anything that is not a verdict is answered with 451 4.3.0, and the log gets a traceback or the policy's name: a policy
that fails never lets mail pass. A condition of the guard about what is not known yet in a phase (a recipient, before
RCPT) does not hold there. A `Note`, and the `facts` of an `Accept` or an `Edit`, are for the policies that are
asked later about the same; a policy that has an attribute `provides` names the facts that it may leave, and one that
has `requires` is refused when the configuration is loaded unless a policy before it provides them.

A policy whose code blocks has an attribute `blocking`, which is `True` in its class: its methods are plain ones, and
are called in threads of its own, several at the same time, `threads` (4) at most. Its `world` may be used from there,
and has no coroutines: `resolver.look_up` and `http.request` return their answers. What begins a stream is called
there too, when all of the message is here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from zope.interface import Attribute, Interface

from relay.interfaces.world import World
from relay.mail.phases import (
    AttemptInquiry,
    AttemptVerdict,
    ConnectionInquiry,
    ConnectionVerdict,
    ContentInquiry,
    ContentVerdict,
    SenderInquiry,
    SenderVerdict,
)
from relay.mail.routing import Inquiry, RoutingVerdict


class IConnectionPolicy(Interface):
    """Decides whether a client may stay, before it is greeted. The first that does not abstain decides."""

    def connect(inquiry: ConnectionInquiry) -> ConnectionVerdict | Awaitable[ConnectionVerdict]:
        """
        `Accept`, `Reject`, `Delay`, `Note`, or `ABSTAIN`; if all abstain the client may stay.

        A refusal is the greeting, with the code 554 or 421 whatever code the reply has (RFC 5321 section 3.1); a client
        that goes on hears 503. Asked again when a host that we trust has said for whom it speaks (XCLIENT).
        """


class ISenderPolicy(Interface):
    """Decides whether mail is taken from this sender. The first that does not abstain decides."""

    def sender(inquiry: SenderInquiry) -> SenderVerdict | Awaitable[SenderVerdict]:
        """`Accept`, `Reject`, `Delay`, `Note`, or `ABSTAIN`, at MAIL; if all abstain the sender is accepted."""


class IContentPolicy(Interface):
    """
    Decides about a message when all of it is here. The first that neither abstains nor edits decides; if none does it
    is accepted.
    """

    wants = Attribute(
        'What it has to see. `"headers"`: the header section, as fields. `"message"`: the whole, in pieces that can be'
        ' read again. `"stream"`: the whole, once, as it comes in.'
    )

    def examine(inquiry: ContentInquiry) -> ContentVerdict | Awaitable[ContentVerdict]:
        """
        `Accept`, `Reject`, `Delay`, `Discard`, `Hold`, `Edit`, `Each`, `Note`, or `ABSTAIN`.

        Asked once for the recipients for which its guard holds, behind the end of content and before the commit.
        """


class IStreamPolicy(IContentPolicy):
    """A content policy that wants `"stream"`."""

    def begin(inquiry: ContentInquiry) -> IContentReader:
        """
        Somebody to hand the octets of this message to, which begins to come in. `fields` has nothing yet, `size` is 0.

        What the reader has seen is asked about by `examine` with the reader as `inquiry.reader`.
        """


class IContentReader(Interface):
    """Takes one message, as a stream policy wants it."""

    def take(octets: bytes) -> None:
        """A piece of the message in plain form. Called in the reactor's thread, and has to be quick."""


class IAttemptPolicy(Interface):
    """Has a word before each attempt to deliver a copy. The first that does not abstain decides."""

    def attempt(inquiry: AttemptInquiry) -> AttemptVerdict | Awaitable[AttemptVerdict]:
        """
        `ABSTAIN` or `Accept`: it is tried. `Delay`: not now, and it is tried again by the schedule. `Forward`: this
        time it goes there. `Reject`: it has failed, and its sender is told. An exception is a `Delay`.
        """


class IObserver(Interface):
    """Sees what happens, and decides nothing."""

    def observe(what: str, fields: Mapping[str, object]) -> None:
        """
        An event of the mail log (docs/mail-log.md), in the turn in which it happens. An exception is logged, and
        nothing else comes of it. What takes long is done elsewhere: this is called in the reactor's thread.
        """


class IRoutingPolicy(Interface):
    """
    Decides where one recipient's copy goes. Asked in the order of the configuration, once for each RCPT
    and for each recipient an alias expands to; the first that does not abstain decides.

    A policy that has an attribute `routes`, which is `True`, says where mail goes and not who may send it: it is asked
    again before a copy that waits is tried again, with what is known of its client by then, and should have no other
    effect than its answer.
    """

    def route(inquiry: Inquiry) -> RoutingVerdict | Awaitable[RoutingVerdict]:
        """
        The verdict, or `ABSTAIN`. May wait, no longer than the policy's `timeout`.

        An exception, a timeout, or anything that is not a verdict is answered with 451 4.3.0, and the log
        gets a traceback or the policy's name: a policy that fails never lets mail pass.
        """


class IPolicyMaker(Interface):
    """
    What a plugin registers: by entry point in the group `relay.policies`, by `use = "package.module:Name"`,
    or as a Twisted plugin found by `getPlugins(IPolicyMaker, relay.plugins)`.

    A class that has these two attributes provides it well enough: `policy_maker` in `relay.policy.registry`
    accepts a policy class with an `Options` model and a constructor `(options, world)`.
    """

    use = Attribute("The word for `use` in the configuration; only Twisted plugins need it.")
    options = Attribute("A pydantic model of the policy's own options: `extra='forbid'`, every field described.")

    def make(options: Any, world: World) -> Any:
        """
        A policy: an object that provides at least one of the policy interfaces. Called once for each
        `[[policy]]` when the configuration is loaded; a `ValueError` is a configuration error.
        """
