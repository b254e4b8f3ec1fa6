"""Carries mail onward: one message to one host, in as many transactions and connections as the host wants."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final, cast

from attrs import Factory, evolve, field, frozen
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from zope.interface import implementer

from relay.agents.needs import proposal_for, transaction_for
from relay.agents.pool import Line, Lines, Pool, Way
from relay.interfaces import Consignment, Interrupted, IPassing, IPlace, ITraveller, IWillingTransmitter, Report
from relay.mail.envelope import Envelope, Form
from relay.mail.outcome import (
    Answered,
    Broke,
    Fact,
    Need,
    Peer,
    Phase,
    TlsTrouble,
    Unauthenticated,
    Unencrypted,
    Unsuitable,
)
from relay.mail.queue import Recipient
from relay.mail.routing import NextHop, TlsLevel
from relay.net.client import Connection, Dialer, Opened, Passage, Sent, Told, awaited
from relay.net.logins import Logins, NoLogin
from relay.net.tls_peers import TlsPeers
from relay.smtp.features import Features
from relay.smtp.limits import portions
from relay.smtp.outgoing import PIECE, chunks, in_one_piece, outgoing
from relay.smtp.transaction import Approach, Refusal, Transaction

#: How a host is met of which nothing was said.
_ANYHOW: Final = NextHop("localhost", mx=False, tls="none")
#: Of so many pairs of a next hop and a peer it is kept what way leads there.
_KEPT: Final = 256
#: Members of an enumeration are looked up slowly.
_WIRE: Final = Form.WIRE


@implementer(IWillingTransmitter)
@frozen
class SmtpTransmitter:
    """
    A connection for each call, unless `pool` has one that was kept; behind it, it is kept or QUIT is said, for whose
    answer nobody waits.

    A host may close a connection that it has served before at any time, and say so with 421 or with nothing. Where
    that is all that came of MAIL, nothing of the content was sent: it is no failure, and a new connection is made. So
    it is if a connection ends with the message ahead, behind which MAIL was said already.

    An exception comes only from content that cannot be read or is damaged.
    """

    dialer: Dialer
    #: `None`: all is said in clear, and what may not be is not said.
    tls: TlsPeers | None = None
    logins: Logins = field(factory=Logins)
    log: Logger = field(factory=lambda: Logger(namespace="relay.delivery"))
    pool: Pool = field(default=Factory(lambda self: Pool(self.dialer.clock), takes_self=True))
    #: What `_lines` has found, by who they are that make the way, which many messages in a row have in common; kept
    #: with both, so that these stay who they are. It only helps where the same objects come again: they are for a
    #: second (`Exchangers`).
    _known: dict[tuple[int, int], tuple[NextHop, Peer, Lines]] = field(factory=dict, init=False, repr=False, eq=False)

    def set_off(self, consignment: Consignment, peer: Peer, place: ITraveller) -> Passing | None:
        known = self._known.get((id(consignment.next_hop), id(peer)))
        if known is not None and not consignment.entry.envelope.require_tls:
            lines = known[2]
        else:
            found = self._lines(consignment, peer)
            if not isinstance(found, Lines):
                return None
            lines = found
        line = self.pool.take(lines, place)
        if line is None:
            return self._set_off_anew(lines, consignment, place) if place.own else None
        passing = Passing(line, consignment, place)
        connection = line.connection
        try:
            proposal = proposal_for(consignment, connection.session.terms)
            line.transactions += 1
            if proposal:
                connection.propose(proposal, passing)
            else:
                transaction = self.transaction(consignment, connection.features)
                passing = _Particular(line, consignment, place, transaction)
                connection.convey(transaction, passing)
        except Exception as problem:
            passing.over = True
            passing.failed(problem)
        passing.under_way = not passing.over
        return passing

    def _set_off_anew(self, lines: Lines, consignment: Consignment, place: ITraveller) -> Passing | None:
        """On a connection that has to be made."""
        passing = _Anew(self, lines, consignment, place)
        try:
            passing.dialled = self._dial(lines.way, self._level(lines.way), passing.opened)
        except Exception:
            # Ours. It is met again, and dealt with, where there is time for that.
            return None
        passing.under_way = True
        return passing

    async def transmit(
        self,
        consignment: Consignment,
        peer: Peer,
        sent: Sent | None = None,
        place: IPlace | None = None,
        passing: IPassing | None = None,
    ) -> Sequence[Report]:
        reports: list[Report] = []
        refusal: Refusal | None = None
        if passing is not None:
            if passing.problem is not None:
                raise passing.problem
            if isinstance(passing, _Anew):
                refusal = passing.refusal
            if passing.facts and (isinstance(passing, _Anew) or not _say_only_that_it_is_over(passing.facts)):
                return [*map(Report, consignment.recipients, passing.facts)]
        lines = self._lines(consignment, peer)
        if not isinstance(lines, Lines):
            if isinstance(lines, Unauthenticated):
                self.log.critical("Nothing can be carried to {peer}: {problem}", peer=str(peer), problem=lines.text)
            return _alike(consignment.recipients, lines)
        try:
            if passing is None:
                line = self.pool.take(lines, place)
                if line is None and place is not None and not place.own:
                    await place.wait()
                    line = self.pool.take(lines, place)
                if line is not None:
                    await self._carry(consignment, line, reports, sent, place)
            if len(reports) < len(consignment.recipients):
                await self._carry_anew(consignment, lines, reports, sent, place, refusal)
        except (Exception, CancelledError) as problem:
            if not reports:
                raise
            raise Interrupted(reports) from problem
        return reports

    def _lines(self, consignment: Consignment, peer: Peer) -> Lines | Fact:
        """The connections to the host, as it is to be met, or why it cannot be."""
        hop, envelope = consignment.next_hop or _ANYHOW, consignment.entry.envelope
        way = self._way(hop, envelope, peer)
        if not isinstance(way, Way):
            return way
        lines = self.pool.lines(way)
        # Not what the message alone wants of it, nor a login, which may come, go or change.
        if not (envelope.require_tls or hop.login):
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[id(hop), id(peer)] = hop, peer, lines
        return lines

    def _way(self, hop: NextHop, envelope: Envelope, peer: Peer) -> Way | Fact:
        """How the host is met, or why it cannot be."""
        try:
            login = self.logins.take(hop.login) if hop.login else None
        except NoLogin as problem:
            # The mail waits: a name may come back into the configuration, and a file may be mended.
            return Unauthenticated(peer, str(problem))
        level: TlsLevel = hop.tls
        # A notice about such a message is sent in any case (RFC 8689 section 5).
        guarded = envelope.require_tls and envelope.reverse_path is not None
        if guarded or level != "none":
            if hop.unix:
                level = "none"
            elif guarded and not peer.assured:
                # Whatever certificate it shows: that it is for the name proves nothing if the name may be anybody's.
                return Unsuitable(Need.REQUIRE_TLS, peer)
            elif guarded:
                level = "verify"
        return Way(
            peer.name,
            peer.address,
            peer.port,
            peer.assured,
            hop.lmtp,
            level,
            login,
            hop.without,
            hop.source,
            hop.hello,
        )

    async def _carry_anew(
        self,
        consignment: Consignment,
        lines: Lines,
        reports: list[Report],
        sent: Sent | None,
        place: IPlace | None,
        refusal: Refusal | None,
    ) -> None:
        """
        What is left, on as many new connections as it takes; a report is added as soon as there is one. `refusal` is
        what has come of the first of them, if that was dialled already.
        """
        recipients = consignment.recipients
        while len(reports) < len(recipients):
            opened = await self._open(lines.way, refusal)
            refusal = None
            if not isinstance(opened, Connection):
                reports += _alike(recipients[len(reports) :], self._refused(opened, consignment))
                return
            before = len(reports)
            await self._carry(consignment, self.pool.add(lines, opened), reports, sent, place)
            over = _over(reports[before].fact)
            if over is not None:
                # It would end the next conversation as well, and each costs its deadlines.
                reports += _alike(recipients[len(reports) :], over)

    async def _open(self, way: Way, refusal: Refusal | None) -> Opened:
        """A connection as the next hop wants it; where it may be in clear, also in clear if TLS fails."""
        opened: Opened = refusal or await awaited(lambda told: self._dial(way, self._level(way), told))
        if way.tls == "may" and isinstance(opened, Unencrypted) and self.tls is not None:
            peer = way.peer
            self.tls.note_failure(peer)
            self.log.warn("TLS with {peer} fails, so it is spoken to in clear: {why}", peer=str(peer), why=opened.text)
            opened = await awaited(lambda told: self._dial(way, "none", told))
        return opened

    def _level(self, way: Way) -> TlsLevel:
        """What is tried first: where it may be in clear, no TLS with whom that has failed a short time ago."""
        if way.tls == "may" and (self.tls is None or self.tls.fails_with(way.peer)):
            return "none"
        return way.tls

    def _dial(self, way: Way, level: TlsLevel, told: Told) -> Connection:
        approach = Approach(way.lmtp, level, way.login, secrets.token_urlsafe, frozenset(way.without))
        dialer = self.dialer.introduced(way.hello, way.source)
        if level == "none":
            return dialer.dial(way.peer, told, approach)
        if self.tls is None:
            raise ValueError("there is no TLS to speak with others")
        return dialer.dial(way.peer, told, approach, self.tls.toward(level, way.peer))

    async def _carry(
        self, consignment: Consignment, line: Line, reports: list[Report], sent: Sent | None, place: IPlace | None
    ) -> None:
        """
        As many transactions of what is left as the host takes on this connection: on a new one at least one, on one
        that has served before perhaps none.
        """
        connection = line.connection
        features = connection.features
        try:
            for part in portions(consignment.recipients[len(reports) :], features, _domain):
                served = line.transactions
                if served == line.most:
                    break
                transaction = self.transaction(consignment, features, part)
                line.transactions += 1
                behind = None
                if not transaction.chunked and len(reports) + len(part) == len(consignment.recipients):
                    # Nothing more of this message follows. Behind chunks nothing does before their reply: a server that
                    # refuses one may leave the transaction as it was (RFC 3030 section 2), and only RSET ends it.
                    behind = partial(line.trail, place, sent or _nobody_follows)
                facts = await connection.carry(transaction, _content(consignment, transaction), behind)
                if served and _say_only_that_it_is_over(facts):
                    break
                for recipient, fact in zip(part, facts, strict=True):
                    reports.append(Report(recipient, fact))
        finally:
            line.give_back()

    def transaction(
        self, consignment: Consignment, features: Features, part: Sequence[Recipient] | None = None
    ) -> Transaction:
        """What is said of it, to a server that offers these: for a part of the recipients, or for all of them."""
        envelope, hop = consignment.entry.envelope, consignment.next_hop
        return transaction_for(
            consignment,
            features,
            consignment.recipients if part is None else part,
            now=0.0 if envelope.deliver_by is None else self.dialer.clock.now(),
            clear=envelope.require_tls and hop is not None and bool(hop.unix),
        )

    def _refused(self, fact: Refusal, consignment: Consignment) -> Fact:
        """What there was instead of a connection; what the operator has to mend is said aloud."""
        if isinstance(fact, Unauthenticated) or (isinstance(fact, Answered) and fact.phase is Phase.AUTH):
            words = fact.text if isinstance(fact, Unauthenticated) else str(fact.reply)
            self.log.critical("{peer} does not let us in: {words}", peer=str(fact.peer), words=words)
        not_offered = isinstance(fact, Unencrypted) and fact.trouble is TlsTrouble.NOT_OFFERED
        envelope = consignment.entry.envelope
        if not_offered and envelope.require_tls and envelope.reverse_path is not None:
            # RFC 8689 section 4.2.1: without TLS there is no REQUIRETLS either, and waiting does not help.
            return Unsuitable(Need.REQUIRE_TLS, fact.peer)
        return fact


@implementer(IPassing)
class Passing(Passage):
    """What `SmtpTransmitter.set_off` has begun, on a connection that has served before: most messages, as they are."""

    __slots__ = ("_consignment", "_line", "_place", "facts", "problem", "under_way")

    def __init__(self, line: Line, consignment: Consignment, place: ITraveller) -> None:
        self.over = False
        self._line = line
        self._consignment = consignment
        self._place = place
        #: Whoever has begun it knows that it has not ended at once.
        self.under_way = False
        self.facts: tuple[Fact, ...] = ()
        #: Why there are none.
        self.problem: BaseException | None = None

    def cancel(self) -> None:
        self._line.connection.withdraw(self)

    # What the connection calls.

    def content(self) -> bytes | Iterator[bytes]:
        consignment = self._consignment
        content = consignment.content
        if content.size >= PIECE or content.form is not _WIRE:
            return outgoing(consignment.head, content.form, content.blocks())
        return in_one_piece(consignment.head, b"".join(content.blocks()))

    def sent(self) -> None:
        place = self._place
        self._line.trail(place, place.sent)

    def settled(self, facts: tuple[Fact, ...]) -> None:
        self.facts = facts
        self._line.give_back()
        if self.under_way:
            self._place.arrived()

    def failed(self, problem: BaseException) -> None:
        self.problem = problem
        self.settled(())


class _Particular(Passing):
    """Of a message whose client has said more of it than most do, or whose content has to be read for its sake."""

    __slots__ = ("_transaction",)

    def __init__(
        self, line: Line, consignment: Consignment, place: ITraveller, transaction: Transaction | None
    ) -> None:
        Passing.__init__(self, line, consignment, place)
        #: `None`: it is as most are.
        self._transaction = transaction

    def content(self) -> bytes | Iterator[bytes]:
        transaction = self._transaction
        if transaction is None or not transaction.chunked:
            return Passing.content(self)
        return _content(self._consignment, transaction)

    def sent(self) -> None:
        # Behind chunks nothing follows before their reply: see `SmtpTransmitter._carry`.
        if self._transaction is None or not self._transaction.chunked:
            Passing.sent(self)


class _Anew(_Particular):
    """On a connection that has to be made: whatever comes of it stands, but for a `refusal`."""

    __slots__ = ("_lines", "_transmitter", "dialled", "refusal")

    def __init__(self, transmitter: SmtpTransmitter, lines: Lines, consignment: Consignment, place: ITraveller) -> None:
        # It has no line before it is `opened`.
        _Particular.__init__(self, cast(Line, None), consignment, place, None)
        self._transmitter = transmitter
        self._lines = lines
        #: What is not open yet.
        self.dialled: Connection | None = None
        #: Why it will never be.
        self.refusal: Refusal | None = None

    def cancel(self) -> None:
        if self.dialled is not None:
            self.dialled.give_up()
            self.problem = CancelledError()
            self._end()
        elif not self.over:
            _Particular.cancel(self)

    def _end(self) -> None:
        """Nothing was said of the message."""
        self.dialled = None
        self.over = True
        self._place.arrived()

    def opened(self, opened: Opened) -> None:
        """What comes of dialling."""
        if not isinstance(opened, Connection):
            self.refusal = opened
            self._end()
            return
        self.dialled = None
        consignment = self._consignment
        self._line = line = self._lines.pool.add(self._lines, opened)
        try:
            proposal = proposal_for(consignment, opened.session.terms)
            line.transactions += 1
            if proposal:
                opened.propose(proposal, self)
            else:
                self._transaction = self._transmitter.transaction(consignment, opened.features)
                opened.convey(self._transaction, self)
        except Exception as problem:
            self.over = True
            self.failed(problem)


def _nobody_follows() -> None:
    """Whoever comes by chance may, but there is nobody to be told."""


def _over(first: Fact) -> Fact | None:
    """What is to be said of recipients who have not had their turn, if a new connection ended with those who had."""
    match first:
        case Broke():
            return evolve(first, phase=Phase.MAIL)
        case Answered(reply=reply) if reply.code == 421:
            return evolve(first, phase=Phase.MAIL)
        case _:
            return None


def _say_only_that_it_is_over(facts: Sequence[Fact]) -> bool:
    """The connection ended before MAIL was answered, or 421 was the answer (RFC 5321 section 3.8)."""
    for fact in facts:
        if type(fact) is Broke and fact.phase is Phase.MAIL:
            return True
        if type(fact) is Answered and fact.phase is Phase.MAIL and fact.reply.code == 421:
            return True
    return False


def _content(consignment: Consignment, transaction: Transaction) -> Iterator[bytes]:
    head, content = consignment.head, consignment.content
    if transaction.chunked:
        return chunks(head, content.form, content.blocks(), binary=transaction.binary)
    return outgoing(head, content.form, content.blocks())


def _alike(recipients: Sequence[Recipient], fact: Fact) -> list[Report]:
    return [Report(recipient, fact) for recipient in recipients]


def _domain(recipient: Recipient) -> str:
    return recipient.address.domain
