"""How long a server may take over each part of a dialogue (RFC 5321 section 4.5.3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import field, frozen

from relay.mail.outcome import Phase
from relay.smtp.course import PHASES, Said

#: Seconds that QUIT may take. Nobody is served by a longer wait: all that mattered has been answered.
QUIT_SECONDS: Final = 5.0


@frozen
class Deadlines:
    """How many seconds the peer may take, for each command and not for each octet (RFC 5321 section 4.5.3.2)."""

    connect: float = 30.0
    #: The greeting, the answers to EHLO, HELO, LHLO, STARTTLS, AUTH and RSET, and the TLS handshake.
    greeting: float = 300.0
    mail: float = 300.0
    rcpt: float = 300.0
    data: float = 120.0
    #: To take one piece of content, or to answer a chunk that is not the last.
    block: float = 180.0
    end: float = 600.0
    #: Until the reply to each thing that is said.
    replies: Mapping[Said, float] = field(init=False, repr=False, eq=False)
    #: The shortest of all that begin with the connection, but for that of QUIT.
    soonest: float = field(init=False, repr=False, eq=False)

    @replies.default
    def _until_replies(self) -> Mapping[Said, float]:
        return {said: self.of(phase) for said, phase in PHASES.items()} | {Said.QUIT: QUIT_SECONDS}

    @soonest.default
    def _the_shortest(self) -> float:
        return min(self.greeting, self.mail, self.rcpt, self.data, self.block, self.end)

    def of(self, phase: Phase) -> float:
        """The deadline of a phase of the dialogue."""
        match phase:
            case Phase.CONNECT:
                return self.connect
            case Phase.MAIL:
                return self.mail
            case Phase.RCPT:
                return self.rcpt
            case Phase.DATA:
                return self.data
            case Phase.CONTENT:
                return self.block
            case Phase.END:
                return self.end
            case _:
                return self.greeting


DEADLINES: Final = Deadlines()
