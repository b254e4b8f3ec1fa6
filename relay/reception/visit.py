"""One client's session: each question to whoever can answer it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, assert_never

from attrs import evolve
from zope.interface import implementer

from relay.interfaces import IVisit, SpoolError
from relay.mail.decision import Accepted, Decision, Refused
from relay.mail.envelope import Client, Form
from relay.mail.reply import Reply, printable
from relay.mail.routing import Inquiry
from relay.reception import inquiries
from relay.reception.authentication import Authentication
from relay.reception.intake import Intake
from relay.reception.reception import Reception
from relay.reception.transaction import Transaction, envelope
from relay.smtp import answers, sasl
from relay.smtp.events import (
    Auth,
    Cancelled,
    ChunkEnded,
    Connected,
    Content,
    ContentEnded,
    Data,
    Expand,
    Hello,
    Help,
    Mail,
    Misspoken,
    Noop,
    Question,
    Quit,
    Rcpt,
    Reset,
    Response,
    StartTls,
    TurnQueue,
    Verify,
    XClient,
)
from relay.smtp.help import explain

#: How much of its own name a client is shown: the line has a limit, and it knows the rest.
_SHOWN: Final = 128


@implementer(IVisit)
class Visit:
    """A client, its open transaction if there is one, and the content that comes in if it does."""

    __slots__ = ("_authentication", "_client", "_intake", "_no_place", "_reception", "_refusal", "_transaction")

    def __init__(
        self,
        reception: Reception,
        client: Client,
        refusal: Reply | None = None,
        offer: sasl.Offer | None = None,
    ) -> None:
        """`refusal` is why the client may not stay: it is greeted with it. `offer`: how it may prove who it is."""
        self._reception = reception
        self._authentication: Authentication | None = None
        if offer is not None and reception.users is not None:
            self._authentication = Authentication(reception.users, offer, client.address, reception.log)
        self._client = client
        self._refusal = refusal
        self._transaction: Transaction | None = None
        self._intake: Intake | None = None
        #: Why there is no place for the content that comes in by BDAT.
        self._no_place: Reply | None = None

    def answer(self, question: Question) -> Reply | Awaitable[Reply]:
        match question:
            case Rcpt():
                return self._rcpt(question)
            case ContentEnded():
                return self._content_ended(question.size, question.fault)
            case Mail():
                return self._mail(question)
            case Data():
                return self._data()
            case ChunkEnded(size, fault):
                return self._chunk_ended(size, fault)
            case Hello():
                return self._hello(question)
            case Connected():
                return self._connected()
            case Reset():
                self._forget()
                return answers.FLUSHED
            case Misspoken(reply):
                self._log_refusal(reply)
                return reply
            case Quit():
                return self._reception.parts
            case Noop():
                return answers.NOTHING_DONE
            case Verify(text):
                if self._reception.verifies and self._client.user is not None:
                    return inquiries.verify(text, self._client, self._reception)
                return answers.CANNOT_VERIFY
            case Help(topic, commands):
                return explain(topic, commands)
            case StartTls():
                return answers.GO_AHEAD
            case Auth() | Response():
                return self._authenticate(question)
            case Cancelled(reply):
                if self._authentication is not None:
                    self._authentication.cancel()
                return reply
            case Expand(text):
                return inquiries.expand(text, self._client, self._reception)
            case TurnQueue():
                return inquiries.turn_queue(question, self._reception)
            case XClient():
                return self._greeting
            case _:
                assert_never(question)

    def take(self, content: Content) -> None:
        intake = self._intake
        if intake is None and self._no_place is None and content.form is Form.PLAIN:
            # BDAT asks for nothing before its octets are here. What is wrong with them is told behind the chunk.
            self._no_place = self._begin_intake(Form.PLAIN)
            intake = self._intake
        if intake is not None:
            intake.take(content.octets)

    def lost(self) -> None:
        self._forget()
        if self._authentication is not None:
            self._authentication.lost()

    def _forget(self) -> None:
        self._transaction = self._no_place = None
        if self._intake is not None:
            self._intake.abandon()
            self._intake = None

    def _connected(self) -> Reply:
        if self._refusal is not None:
            self._log_refusal(self._refusal)
            return self._refusal
        return self._greeting

    @property
    def _greeting(self) -> Reply:
        return self._reception.greets

    def _hello(self, hello: Hello) -> Reply:
        self._forget()
        reception, name = self._reception, hello.name
        self._client = client = evolve(self._client, helo=name, extended=hello.extended)
        whence = f" [{client.address}]" if client.address else ""
        welcome = f"{reception.hostname} Hello {printable(name)[:_SHOWN]}{whence}"
        return Reply.of(250, None, welcome, *hello.keywords)

    async def _authenticate(self, question: Auth | Response) -> Reply:
        authentication = self._authentication
        if authentication is None:
            return answers.NO_AUTH
        if isinstance(question, Auth):
            reply = await authentication.begin(question.mechanism, question.initial)
        else:
            reply = await authentication.respond(question.octets)
        if reply.code == 235:
            self._client = client = evolve(self._client, user=authentication.user)
            self._reception.maillog.event(
                "authenticated", user=client.user, client=client.address, listener=client.listener
            )
        elif reply.code != 334:
            denied = authentication.denied
            self._log_refusal(
                reply,
                user=None if denied is None else denied.user,
                because=None if denied is None else denied.because,
            )
        return reply

    def _mail(self, mail: Mail) -> Reply:
        spool = self._reception.spool
        if not spool.accepting:
            return answers.OUR_FAULT
        if not spool.room(mail.size or 0):
            self._log_refusal(answers.NO_ROOM, sender=mail.reverse_path)
            return answers.NO_ROOM
        reception = self._reception
        said = envelope(mail, self._client, reception.clock, reception.limits.hold)
        match said:
            case Reply():
                return said
            case _:
                self._transaction = Transaction(said, mail.size or 0)
                return answers.SENDER_OK

    def _rcpt(self, rcpt: Rcpt) -> Reply | Awaitable[Reply]:
        transaction, recipient = self._transaction or self._open_transaction(), rcpt.recipient
        said = transaction.envelope
        decision = self._reception.decide(Inquiry(recipient, recipient, said.reverse_path, said.client))
        match decision:
            case Accepted(placements):
                self._transaction = transaction.accept(placements, rcpt.wishes)
                return answers.RECIPIENT_OK
            case Refused():
                return self._refused(transaction, rcpt, decision)
            case _:
                return self._rcpt_later(transaction, rcpt, decision)

    async def _rcpt_later(self, transaction: Transaction, rcpt: Rcpt, deciding: Awaitable[Decision]) -> Reply:
        decision = await deciding
        match decision:
            case Accepted(placements):
                self._transaction = transaction.accept(placements, rcpt.wishes)
                return answers.RECIPIENT_OK
            case Refused():
                return self._refused(transaction, rcpt, decision)
            case _:
                assert_never(decision)

    def _refused(self, transaction: Transaction, rcpt: Rcpt, refused: Refused) -> Reply:
        self._log_refusal(
            refused.reply,
            sender=transaction.envelope.reverse_path,
            recipient=rcpt.recipient,
            policy=refused.policy,
            because=refused.because,
        )
        return refused.reply

    def _data(self) -> Reply | Awaitable[Reply]:
        if self._reception.turnstile.crowded:
            return self._data_in_turn()
        return self._begin_intake(Form.WIRE) or answers.SEND_CONTENT

    async def _data_in_turn(self) -> Reply:
        await self._reception.turnstile.turn()
        return self._begin_intake(Form.WIRE) or answers.SEND_CONTENT

    def _begin_intake(self, form: Form) -> Reply | None:
        """Make a place for content, or say why there is none."""
        transaction, reception = self._transaction or self._open_transaction(), self._reception
        if not reception.spool.room(transaction.size):
            self._log_refusal(answers.NO_ROOM, sender=transaction.envelope.reverse_path)
            return answers.NO_ROOM
        try:
            self._intake = Intake(reception, form)
        except SpoolError:
            reception.log.failure("The spool has no place for a draft")
            return answers.OUR_FAULT
        return None

    def _chunk_ended(self, size: int, fault: Reply | None) -> Reply:
        """A chunk that is not the last: one that is refused ends the transaction (RFC 3030 section 2)."""
        if self._intake is None and self._no_place is None:  # chunks of no octets
            self._no_place = self._begin_intake(Form.PLAIN)
        fault = fault or self._no_place or (self._intake.fault if self._intake is not None else None)
        if fault is None:
            return Reply.of(250, "2.0.0", f"{size} octets so far")
        transaction = self._open_transaction()
        self._log_refusal(fault, sender=transaction.envelope.reverse_path, size=size)
        self._forget()
        return fault

    def _content_ended(self, size: int, fault: Reply | None) -> Reply | Awaitable[Reply]:
        transaction = self._transaction or self._open_transaction()
        if self._intake is None and self._no_place is None:  # `BDAT 0 LAST`, and nothing before it
            self._no_place = self._begin_intake(Form.PLAIN)
        intake, no_place = self._intake, self._no_place
        self._transaction = self._no_place = None
        if intake is None:
            return no_place or answers.OUR_FAULT
        fault = intake.judge(fault)
        if fault is not None:
            self._intake = None
            self._log_refusal(
                fault, id=intake.id, message_id=intake.message_id, sender=transaction.envelope.reverse_path, size=size
            )
            return fault
        if intake.form is Form.PLAIN and self._reception.turnstile.crowded:  # the others have waited at DATA
            return self._promise_in_turn(intake, transaction, size)
        # From here on it is the spool's, whatever becomes of the client.
        self._intake = None
        return intake.promise(transaction, size)

    async def _promise_in_turn(self, intake: Intake, transaction: Transaction, size: int) -> Reply:
        await self._reception.turnstile.turn()
        if self._intake is None:  # the client has gone
            return answers.OUR_FAULT
        self._intake = None
        return await intake.promise(transaction, size)

    def _open_transaction(self) -> Transaction:
        if self._transaction is None:
            raise RuntimeError("there is no transaction")
        return self._transaction

    def _log_refusal(self, reply: Reply, **fields: object) -> None:
        client = self._client
        self._reception.maillog.event(
            "refused",
            reply=str(reply),
            client=client.address,
            helo=client.helo,
            listener=client.listener,
            **fields,
        )
