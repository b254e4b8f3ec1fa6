"""What a listener is like, and what its sessions are held to: the same for all of them."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import Factory, field, frozen

from relay.mail.address import Address
from relay.smtp.commands import Grammar
from relay.smtp.extensions import OFFERED, Extension, Standing


@frozen
class SessionLimits:
    """The limits that the dialogue itself keeps. `None`: no such limit (a trusted client)."""

    #: Octets of a command line, its end included (RFC 5321 section 4.5.3.1.4).
    command_line: int = 2048
    #: Octets of a line of content, its end excluded.
    content_line: int = 64 * 1024
    #: Recipients in a transaction (RFC 5321 section 4.5.3.1.8: never below 100).
    recipients: int = 1000
    #: Octets of a message, announced by SIZE.
    message: int = 25 * 1024 * 1024
    #: Negative replies after which we answer slowly, and after which we close.
    errors_slow: int = 10
    errors: int = 20
    #: Commands that do nothing (NOOP, RSET, VRFY, HELP, EHLO) since the last accepted message.
    idle_commands: int | None = 100
    messages: int | None = 1000
    #: Chunks of BDAT in a message.
    chunks: int = 4096
    #: Octets of a response of AUTH, its CRLF included (RFC 4954 section 4).
    auth_line: int = 12288
    #: Who talks before the greeting, or behind DATA before its reply, is refused and cut off.
    in_turn: bool = False


@frozen
class Idiom:
    """What a client of one standing may say."""

    #: Before it has said EHLO, and if it says HELO: without parameters.
    plain: Grammar
    extended: Grammar


@frozen
class Profile:
    """What a listener is like, the same for all of its sessions."""

    #: In canonical form; shown in the greeting and in the answer to HELO.
    hostname: str
    #: A client whose first command ends with a bare LF may go on so (a person at netcat).
    lenient: bool = False
    extensions: tuple[Extension, ...] = OFFERED
    #: What stands behind the keywords of extensions in the answer to EHLO, where that is the same for all sessions.
    arguments: Mapping[str, str] = field(factory=dict)
    #: LHLO, and a reply for each recipient behind the content (RFC 2033).
    lmtp: bool = False
    #: Nothing but STARTTLS before TLS (RFC 3207 section 4), and no mail before AUTH (RFC 6409 section 4.3).
    requires_tls: bool = False
    requires_auth: bool = False
    #: Where `RCPT TO:<postmaster>` goes, which needs no domain (RFC 5321 section 4.5.1).
    postmaster: Address = field(default=Factory(lambda self: Address("postmaster", self.hostname), takes_self=True))
    #: Made when the first client of that kind comes: there are few kinds.
    _idioms: dict[Standing, Idiom] = field(init=False, factory=dict, repr=False, eq=False)

    def idiom(self, standing: Standing) -> Idiom:
        """How one speaks with a client of this standing."""
        idiom = self._idioms.get(standing)
        if idiom is None:
            idiom = self._idioms[standing] = Idiom(
                self._grammar(standing, extended=False), self._grammar(standing, extended=True)
            )
        return idiom

    def _grammar(self, standing: Standing, *, extended: bool) -> Grammar:
        return Grammar(
            self.extensions,
            postmaster=self.postmaster,
            standing=standing,
            extended=extended,
            lmtp=self.lmtp,
            guarded=(self.requires_tls and not standing.secured) or (self.requires_auth and not standing.authenticated),
            offers=self.keywords(standing),
        )

    def keywords(self, standing: Standing, words: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """The lines of the answer to EHLO behind the first. `words`: arguments that are the session's own."""
        lines, own = [], words or {}
        for extension in self.extensions:
            arguments = own.get(extension.keyword) or self.arguments.get(extension.keyword, "")
            if extension.to(standing) and (arguments or not extension.needs_arguments):
                lines.append(f"{extension.keyword} {arguments}".rstrip(" "))
        return tuple(lines)
