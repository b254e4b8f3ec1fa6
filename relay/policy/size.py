"""`use = "size"`: a limit of size below the listener's."""

from typing import Annotated, Literal

from pydantic import Field
from zope.interface import implementer

from relay.config.fields import Section
from relay.config.units import Size, spell_size
from relay.interfaces import IContentPolicy, ISenderPolicy, World
from relay.mail.phases import ContentInquiry, SenderInquiry
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Abstention, Reject


class SizeOptions(Section):
    """What `[[policy]] use = "size"` may say."""

    most: Annotated[Size, Field(gt=0)] = Field(
        description="How large a message may be, with its header section, in octets as they are sent."
    )


@implementer(ISenderPolicy, IContentPolicy)
class SizeLimit:
    """
    Refuses at MAIL what says that it is too large (RFC 1870 section 6.1), and at the end of the content what is.
    """

    Options = SizeOptions
    wants = "headers"

    def __init__(self, options: SizeOptions, world: World) -> None:
        self._most = options.most
        self._reply = Reply.of(552, "5.3.4", f"Message too large: at most {spell_size(options.most)}")

    def sender(self, inquiry: SenderInquiry) -> Reject | Literal[Abstention.ABSTAIN]:
        size = inquiry.size
        return ABSTAIN if size is None else self._judge(size)

    def examine(self, inquiry: ContentInquiry) -> Reject | Literal[Abstention.ABSTAIN]:
        return self._judge(inquiry.size)

    def _judge(self, size: int) -> Reject | Literal[Abstention.ABSTAIN]:
        if size <= self._most:
            return ABSTAIN
        return Reject(self._reply, f"{size} octets are more than {self._most}")
