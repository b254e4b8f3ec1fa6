"""Policies that say in a configuration what they are to say, for tests of what is told of them."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred
from zope.interface import implementer

from relay.config.fields import Section
from relay.interfaces import IConnectionPolicy, IContentPolicy, IRoutingPolicy, ISenderPolicy, World
from relay.mail.address import Address
from relay.mail.edits import AddField, AddRecipient
from relay.mail.phases import Each, Edit
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Accept, Delay, Deliver, Discard, Forward, Hold, Note, Reject, Rewrite

_DAY: Final = 86400.0


class SpeakingOptions(Section):
    """What it says."""

    #: A key of `VERDICTS`, `raise`, or `count`: it delays each first question, as a greylist does.
    says: str
    #: It has an opinion only about those in whose question this occurs.
    about: str = ""


VERDICTS: Final[dict[str, Any]] = {
    "abstain": ABSTAIN,
    "note": Note({"seen": "yes"}, "I have seen it"),
    "reject": Reject(Reply.of(550, "5.7.1", "no"), "I do not like it"),
    "delay": Delay(Reply.of(450, "4.7.1", "later"), "it is early"),
    "accept": Accept("it is fine", {"fine": "yes"}),
    "deliver": Deliver("maildir", {"directory": "/world/mail/all"}, "for everybody"),
    "forward": Forward("far.example", "onward"),
    "rewrite": Rewrite((Address("other", "here.example"), Address("third", "far.example")), "an alias"),
    "discard": Discard("to nowhere"),
    "hold": Hold("to be looked at"),
    "edit": Edit((AddField("X-Seen", "yes"),), "to mark it"),
    "bcc": Edit((AddRecipient(Address("archive", "here.example")),), "to keep it"),
    "none": None,
}


class Speaking:
    Options = SpeakingOptions
    wants = "headers"
    #: What those wait for that are to say `wait`.
    thinking: ClassVar[list[Deferred[Any]]] = []

    def __init__(self, options: SpeakingOptions, world: World) -> None:
        self._options = options
        self._store = world.store
        self._random = world.random

    def _say(self, inquiry: Any) -> Any:
        says, about = self._options.says, repr(inquiry)
        if self._options.about not in about:
            return ABSTAIN
        if says == "raise":
            raise RuntimeError("it was told to")
        if says == "count":
            key = self._key(inquiry)
            if self._store.get(key) is None:
                self._store.put(key, "once", _DAY)
                return VERDICTS["delay"]
            return ABSTAIN
        if says == "chance":
            return Reject(Reply.of(550, "5.7.1", f"{self._random.random()}"))
        if says == "wait":
            self.thinking.append(Deferred())
            return self.thinking[-1]
        if says == "each":
            return Each({recipient: VERDICTS["reject"] for recipient in inquiry.recipients})
        return VERDICTS[says]

    def _key(self, inquiry: Any) -> str:
        client = getattr(inquiry, "client", None) or inquiry.envelope.client
        return f"{client.address} {getattr(inquiry, 'recipient', '')}"

    connect = sender = route = examine = _say


@implementer(IConnectionPolicy)
class AtConnection(Speaking):
    pass


@implementer(ISenderPolicy)
class AtSender(Speaking):
    pass


@implementer(IRoutingPolicy)
class AtRecipient(Speaking):
    pass


@implementer(IContentPolicy)
class AtContent(Speaking):
    pass
