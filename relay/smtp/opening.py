"""
From the greeting to the first transaction: EHLO, STARTTLS, EHLO again, AUTH (RFC 5321 section 3.1, RFC 3207, RFC 4954).

What has to come true first is an `Approach`. Nothing that was learned in clear is used behind a handshake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from attrs import frozen

from relay.mail.outcome import Answered, Peer, TlsTrouble, Unauthenticated, Unencrypted
from relay.mail.reply import Reply
from relay.smtp.course import PHASES, Said, speakable
from relay.smtp.features import NOTHING_OFFERED, Features, offered_by
from relay.smtp.sasl_client import Exchange, Refused
from relay.smtp.sasl_lines import decode_challenge, encode
from relay.smtp.transaction import Approach, Ready, Refusal, StartTls

_TEXT = 500


@frozen
class Say:
    """Say this line, and wait for the reply."""

    line: str
    said: Said


@frozen
class Leave:
    """No transaction is possible here: QUIT is all that may be said (RFC 5321 section 3.1)."""

    fact: Refusal


Step: TypeAlias = Say | StartTls | Leave | Ready


class Opening:
    """
    What is said until a transaction may begin. `hear` is called with each reply, `secured` when a handshake is
    complete.

    `features` are what the server offers where we are now, `tls` is how the channel is encrypted, `verified` whether
    the server is who it should be, and `authenticated` whether it knows who we are.
    """

    __slots__ = (
        "_approach",
        "_cancelled",
        "_exchange",
        "_hello",
        "_peer",
        "authenticated",
        "features",
        "tls",
        "verified",
    )

    def __init__(self, hello: str, peer: Peer, approach: Approach) -> None:
        self._hello = speakable(hello)
        self._peer = peer
        self._approach = approach
        self.features = NOTHING_OFFERED
        self.tls = ""
        self.verified = False
        self.authenticated = False
        self._exchange: Exchange | None = None
        #: Why we have said `*`.
        self._cancelled = ""

    def hear(self, said: Said, reply: Reply) -> Step | None:
        """What comes next; `None`: this is no answer to what was said."""
        row = _ROWS.get((said, reply.code // 100))
        return None if row is None else row(self, said, reply)

    def hear_offers(self, octets: bytes) -> Step | None:
        """As `hear` to EHLO, if these octets are a whole answer as nearly all are; `None`: nothing has happened."""
        features = offered_by(octets, self._approach.without)
        if features is None:
            return None
        self.features = features
        return self._encrypt()

    def secured(self, tls: str, verified: bool) -> Step:
        """The handshake is complete: we know nothing of the server, and begin again (RFC 3207 section 4.2)."""
        self.tls, self.verified = tls, verified
        return self._introduce()

    # The rows.

    def _hear_greeting(self, said: Said, reply: Reply) -> Step:
        return self._introduce()

    def _introduce(self) -> Step:
        self.features = NOTHING_OFFERED
        said = Said.LHLO if self._approach.lmtp else Said.EHLO
        return Say(f"{said.name} {self._hello}", said)

    def _fall_back(self, said: Said, reply: Reply) -> Step:
        """It does not know EHLO, or says so (RFC 5321 section 3.2): in older words, then."""
        return Say(f"HELO {self._hello}", Said.HELO)

    def _hear_features(self, said: Said, reply: Reply) -> Step:
        if said is not Said.HELO:
            self.features = Features.offered(reply.lines, self._approach.without)
        return self._encrypt()

    def _encrypt(self) -> Step:
        level = self._approach.tls
        if self.tls and level == "verify" and not self.verified:
            return Leave(Unencrypted(TlsTrouble.FAILED, self._peer, "it was not found out who it is"))
        if self.tls or level == "none":
            return self._authenticate()
        if self.features.starttls:
            return Say("STARTTLS", Said.STARTTLS)
        if level == "may":
            return self._authenticate()
        return Leave(Unencrypted(TlsTrouble.NOT_OFFERED, self._peer))

    def _start_tls(self, said: Said, reply: Reply) -> Step:
        self.features = NOTHING_OFFERED
        return StartTls()

    def _stay_in_clear(self, said: Said, reply: Reply) -> Step:
        if self._approach.tls != "may":
            return Leave(Unencrypted(TlsTrouble.REFUSED, self._peer, str(reply)[:_TEXT]))
        return self._authenticate()

    def _authenticate(self) -> Step:
        login, nonce = self._approach.login, self._approach.nonce
        if login is None:
            return Ready(self.features)
        if not self.verified:
            return Leave(Unauthenticated(self._peer, "without a verified certificate nobody is told who we are"))
        if nonce is None:
            raise ValueError("a login needs a nonce")
        self._exchange = Exchange.begin(self.features.mechanisms, login, nonce)
        if self._exchange is None:
            offered = " ".join(self.features.mechanisms)[:_TEXT] or "nothing"
            return Leave(Unauthenticated(self._peer, f"no way to log in: the server offers {offered}"))
        return Say(self._exchange.command().decode("ascii"), Said.AUTH)

    def _take_challenge(self, said: Said, reply: Reply) -> Step:
        assert self._exchange is not None, "AUTH was not said"
        # A long line was folded where it was read; there are no blanks in base64.
        answer = self._exchange.respond(decode_challenge("".join(reply.lines)))
        if isinstance(answer, Refused):
            self._cancelled = answer.why
            return Say("*", Said.CANCEL)
        return Say(encode(answer.octets).decode("ascii"), Said.AUTH)

    def _take_praise(self, said: Said, reply: Reply) -> Step:
        assert self._exchange is not None, "AUTH was not said"
        if not self._exchange.believes:
            return Leave(Unauthenticated(self._peer, "the server has let us in before it could know who we are"))
        self.authenticated = True
        return Ready(self.features)

    def _give_up(self, said: Said, reply: Reply) -> Step:
        """Whatever it says to `*`, we are not authenticated."""
        return Leave(Unauthenticated(self._peer, self._cancelled))

    def _hear_refusal(self, said: Said, reply: Reply) -> Step:
        return Leave(Answered(reply, PHASES[said], self._peer))


_Row: TypeAlias = Callable[[Opening, Said, Reply], Step]

_ROWS: Final[Mapping[tuple[Said, int], _Row]] = {
    (Said.NOTHING, 2): Opening._hear_greeting,
    (Said.NOTHING, 4): Opening._hear_refusal,
    (Said.NOTHING, 5): Opening._hear_refusal,
    (Said.EHLO, 2): Opening._hear_features,
    (Said.EHLO, 4): Opening._hear_refusal,
    (Said.EHLO, 5): Opening._fall_back,
    (Said.LHLO, 2): Opening._hear_features,
    (Said.LHLO, 4): Opening._hear_refusal,
    (Said.LHLO, 5): Opening._hear_refusal,
    (Said.HELO, 2): Opening._hear_features,
    (Said.HELO, 4): Opening._hear_refusal,
    (Said.HELO, 5): Opening._hear_refusal,
    (Said.STARTTLS, 2): Opening._start_tls,
    (Said.STARTTLS, 4): Opening._stay_in_clear,
    (Said.STARTTLS, 5): Opening._stay_in_clear,
    (Said.AUTH, 2): Opening._take_praise,
    (Said.AUTH, 3): Opening._take_challenge,
    (Said.AUTH, 4): Opening._hear_refusal,
    (Said.AUTH, 5): Opening._hear_refusal,
    (Said.CANCEL, 2): Opening._give_up,
    (Said.CANCEL, 4): Opening._give_up,
    (Said.CANCEL, 5): Opening._give_up,
}
