"""One client's session: each question to whoever can answer it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer

from relay.interfaces import Deciding, IScreening, IVisit, SpoolError
from relay.mail.decision import Accepted, Decision, Placement, Refused
from relay.mail.dsn import NO_WISHES
from relay.mail.envelope import Client, Envelope, Form
from relay.mail.facts import agreed
from relay.mail.reply import Reply, printable
from relay.mail.routing import Discard, Inquiry, Reject
from relay.mail.trace import came
from relay.net.doorway import Arrival
from relay.net.waiting import start
from relay.reception import inquiries
from relay.reception.accounts import refuse
from relay.reception.authentication import Authentication
from relay.reception.intake import Intake
from relay.reception.reception import Reception
from relay.reception.screening import NOBODY, Known, consider, greeting_refused, meet
from relay.reception.transaction import Transaction, envelope
from relay.reception.weighing import Judged
from relay.smtp import answers, sasl
from relay.smtp.events import (
    Answer,
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
    Verdicts,
    Verify,
    XClient,
)
from relay.smtp.help import explain

#: How much of its own name a client is shown: the line has a limit, and it knows the rest.
_SHOWN: Final = 128
_DECIDED: Final = (Accepted, Refused)
#: Members of an `Enum` take their time to be found.
_WIRE: Final = Form.WIRE


@lru_cache(maxsize=1000)
def _welcome(hostname: str, name: str, address: str | None, keywords: tuple[str, ...]) -> Reply:
    """The answer to HELO and EHLO. Clients come again, and say the same."""
    whence = f" [{address}]" if address else ""
    return Reply.of(250, None, f"{hostname} Hello {printable(name)[:_SHOWN]}{whence}", *keywords)


@implementer(IVisit)
class Visit:
    """A client, its open transaction if there is one, and the content that comes in if it does."""

    __slots__ = (
        "_arrival",
        "_authentication",
        "_came",
        "_client",
        "_decide",
        "_intake",
        "_judging",
        "_no_place",
        "_reception",
        "_spared",
        "_transaction",
        "known",
    )

    def __init__(
        self,
        reception: Reception,
        arrival: Arrival,
        client: Client | None = None,
        offer: sasl.Offer | None = None,
    ) -> None:
        """
        `client`: all that is known of it; `None`: only where it is (`arrival`), as of nearly everybody who has just
        come. `offer`: how it may prove who it is.
        """
        self._reception = reception
        self._arrival = arrival
        #: `None`: nobody has had to know yet.
        self._client = client
        #: What decides about its recipients, what says of their content that nobody has to look at it, and how the
        #: trace field of its messages begins. `None`: as there is need of it.
        self._decide: Deciding | None = None
        self._spared: Callable[[Sequence[Inquiry]], Sequence[Any] | None] | None = None
        self._came: str | None = None
        self._authentication: Authentication | None = None
        if offer is not None and reception.users is not None:
            self._authentication = Authentication(reception.users, offer, self._whom().address, reception.log)
        self._transaction: Transaction | None = None
        self._intake: Intake | None = None
        #: What policies say of the content, while they think about it.
        self._judging: Deferred[Judged] | None = None
        #: Why there is no place for the content that comes in by BDAT.
        self._no_place: Reply | None = None
        #: `None`: policies have still to be asked about the client.
        self.known: Known | None = arrival.known
        if self.known is None and not reception.asks_clients:
            self.known = NOBODY

    def _meet(self, client: Client) -> None:
        """From now on this is known of it. What is worked out once for all of its messages is worked out anew."""
        self._client = client
        self._decide = self._spared = self._came = None

    def _whom(self) -> Client:
        """The client, as far as it is known by now."""
        client = self._client
        if client is None:
            arrival, reception = self._arrival, self._reception
            client = self._client = Client(
                arrival.address, arrival.port, listener=reception.listener, lmtp=reception.lmtp
            )
        return client

    def answer(self, question: Question) -> Answer | Awaitable[Answer]:
        return _ANSWERS[type(question)](self, question)

    def take(self, content: Content) -> None:
        if self._intake is None and self._no_place is None and content.form is Form.PLAIN:
            # BDAT asks for nothing before its octets are here. What is wrong with them is told behind the chunk.
            self._no_place = self._begin_intake(Form.PLAIN)
        if self._intake is not None:
            self._intake.take(content.octets)

    def lost(self) -> None:
        if self._transaction is not None or self._intake is not None:
            self._forget()
        if self._authentication is not None:
            self._authentication.lost()

    def _forget(self) -> None:
        self._transaction = self._no_place = None
        intake, self._intake = self._intake, None
        if self._judging is not None:
            # Nobody hears what they say any more, and soon there is nothing left to read.
            self._judging.cancel()
        if intake is not None:
            intake.abandon()

    def _connected(self, connected: Connected) -> Reply | Awaitable[Reply]:
        refusal = self._arrival.refusal
        if refusal is not None:
            self._log_refusal(refusal)
            return refusal
        return self._reception.greets if self.known is not None else self._met()

    async def _met(self) -> Reply:
        """The greeting, or why policies do not want the client to stay."""
        return await self._stranger(greeting=True) or self._reception.greets

    async def _stranger(self, *, greeting: bool = False) -> Reply | None:
        """Ask about the client; the reply that refuses it, if it is refused."""
        reception, client = self._reception, self._whom()
        assert reception.screening is not None, "there is somebody to ask"
        known = await meet(client, reception, reception.screening)
        refused = known.refused
        if refused is not None:
            if greeting:
                refused = evolve(refused, reply=greeting_refused(refused.reply))
            return refuse(reception, client, refused, known.steps)
        self.known = known
        return None

    def _hello(self, hello: Hello) -> Reply:
        reception, old, name = self._reception, self._client, hello.name
        if old is None:
            arrival = self._arrival
            address = arrival.address
            self._client = Client(
                address, arrival.port, name, hello.extended, reception.listener, None, None, reception.lmtp
            )
        else:
            self._forget()
            address = old.address
            self._meet(Client(address, old.port, name, hello.extended, old.listener, old.user, old.tls, old.lmtp))
        return _welcome(reception.hostname, name, address, hello.keywords)

    def _reset(self, reset: Reset) -> Reply:
        self._forget()
        return answers.FLUSHED

    def _misspoken(self, misspoken: Misspoken) -> Reply:
        self._log_refusal(misspoken.reply)
        return misspoken.reply

    def _quit(self, quit: Quit) -> Reply:
        return self._reception.parts

    def _noop(self, noop: Noop) -> Reply:
        return answers.NOTHING_DONE

    def _verify(self, verify: Verify) -> Reply | Awaitable[Reply]:
        if self._reception.verifies and (client := self._whom()).user is not None:
            return inquiries.verify(verify.text, client, self._reception)
        return answers.CANNOT_VERIFY

    def _expand(self, expand: Expand) -> Reply | Awaitable[Reply]:
        return inquiries.expand(expand.text, self._whom(), self._reception)

    def _turn_queue(self, turn: TurnQueue) -> Reply | Awaitable[Reply]:
        return inquiries.turn_queue(turn, self._reception)

    def _help(self, help: Help) -> Reply:
        return explain(help.topic, help.commands)

    def _start_tls(self, start_tls: StartTls) -> Reply:
        return answers.GO_AHEAD

    def _introduced(self, introduction: XClient) -> Reply:
        return self._reception.greets

    def _cancelled(self, cancelled: Cancelled) -> Reply:
        if self._authentication is not None:
            self._authentication.cancel()
        return cancelled.reply

    async def _authenticate(self, question: Auth | Response) -> Reply:
        authentication = self._authentication
        if authentication is None:
            return answers.NO_AUTH
        if isinstance(question, Auth):
            reply = await authentication.begin(question.mechanism, question.initial)
        else:
            reply = await authentication.respond(question.octets)
        if reply.code == 235:
            client = evolve(self._whom(), user=authentication.user)
            self._meet(client)
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

    def _mail(self, mail: Mail) -> Reply | Awaitable[Reply]:
        reception, size = self._reception, mail.size or 0
        if not reception.spool.accepting:
            return answers.OUR_FAULT
        if not reception.spool.room(size):
            self._log_refusal(answers.NO_ROOM, sender=mail.reverse_path)
            return answers.NO_ROOM
        client = self._client or self._whom()
        said = envelope(mail, client, reception.clock, reception.limits.hold)
        if type(said) is Reply:
            return said
        known = self.known
        if known is None or reception.asks_senders:
            return self._screened(mail, said)
        begins = self._came
        if begins is None or mail.smtputf8:
            begins = self._begins(mail, client)
        each = mail.prdr or client.lmtp
        self._transaction = Transaction(said, begins, size, known.facts, each, [*known.steps])
        return answers.SENDER_OK

    def _begins(self, mail: Mail, client: Client) -> str:
        """How the trace field of this message begins. For most of a client's messages that is the same."""
        begins = came(client, self._reception.hostname, mail.smtputf8)
        if not mail.smtputf8:
            self._came = begins
        return begins

    async def _screened(self, mail: Mail, said: Envelope) -> Reply:
        """Ask about the sender, and before that about a client of whom we have only heard now (XCLIENT)."""
        reception, client, until = self._reception, said.client, None
        screening = reception.screening
        assert screening is not None, "there is somebody to ask"
        if self.known is None:
            # All policies together have so long for a command, whatever they are asked at it.
            until = reception.clock.seconds() + reception.limits.policies_at_command
            if (refused := await self._stranger()) is not None:
                return refused
        known = self.known or NOBODY
        if screening.asks_senders:
            known = await consider(mail, client, known, reception, screening, until)
            if known.refused is not None:
                return refuse(reception, client, known.refused, known.steps, sender=mail.reverse_path)
        begins, each = self._begins(mail, client), mail.prdr or client.lmtp
        self._transaction = Transaction(said, begins, mail.size or 0, known.facts, each, [*known.steps])
        return answers.SENDER_OK

    def _rcpt(self, rcpt: Rcpt) -> Reply | Awaitable[Reply]:
        reception, recipient = self._reception, rcpt.recipient
        transaction = self._transaction or self._open_transaction()
        said = transaction.envelope
        inquiry = Inquiry(recipient, recipient, said.reverse_path, said.client, transaction.facts)
        decide = self._decide
        if decide is None:
            decide = self._decide = reception.deciding(inquiry)
        steps: list[Any] = []
        decision = decide(inquiry, None if reception.history is None else steps.append)
        if isinstance(decision, Placement):
            if rcpt.wishes is NO_WISHES and not transaction.recipients:
                # As it is nearly always. Nobody came before it with whom it would have to agree.
                transaction.placements, transaction.recipients = (decision,), 1
                transaction.steps += steps
                if reception.asks_contents:
                    transaction.asked = (inquiry,)
                return answers.RECIPIENT_OK
            return self._accepted(transaction, rcpt, inquiry, (decision,), steps)
        if isinstance(decision, _DECIDED):
            return self._decided(transaction, rcpt, inquiry, decision, steps)
        return self._rcpt_later(transaction, rcpt, inquiry, decision, steps)

    async def _rcpt_later(
        self, transaction: Transaction, rcpt: Rcpt, inquiry: Inquiry, deciding: Awaitable[Decision], steps: list[Any]
    ) -> Reply:
        return self._decided(transaction, rcpt, inquiry, await deciding, steps)

    def _decided(
        self, transaction: Transaction, rcpt: Rcpt, inquiry: Inquiry, decision: Decision, steps: list[Any]
    ) -> Reply:
        if isinstance(decision, Refused):
            return refuse(
                self._reception,
                inquiry.client,
                decision,
                (*transaction.steps, *steps),
                sender=transaction.envelope.reverse_path,
                recipients=(rcpt.recipient,),
            )
        return self._accepted(transaction, rcpt, inquiry, decision.placements, steps)

    def _accepted(
        self,
        transaction: Transaction,
        rcpt: Rcpt,
        inquiry: Inquiry,
        placements: tuple[Placement, ...],
        steps: list[Any],
    ) -> Reply:
        if rcpt.wishes is not NO_WISHES:
            placements = tuple(evolve(placement, wishes=rcpt.wishes) for placement in placements)
        screening = self._reception.screening
        if screening is None or not self._reception.asks_contents:
            transaction.accept(placements, steps, ())
            return answers.RECIPIENT_OK
        # Of an alias that is what its members agree on; who is refused gets nothing that could be asked about.
        facts = agreed([placement.facts for placement in placements if type(placement.route) is not Reject])
        if facts is not inquiry.facts:
            inquiry = evolve(inquiry, facts=facts)
        if self._has_others(transaction, inquiry, screening):
            self._log_refusal(
                answers.OTHER_POLICIES, sender=transaction.envelope.reverse_path, recipient=rcpt.recipient
            )
            return answers.OTHER_POLICIES
        transaction.accept(placements, steps, (inquiry,))
        return answers.RECIPIENT_OK

    def _has_others(self, transaction: Transaction, inquiry: Inquiry, screening: IScreening) -> bool:
        """
        Whether this recipient has to come in a transaction of its own: who has other policies about content than those
        before it, unless its sender can be told by a notice.
        """
        if self._reception.mixed != "split" or not transaction.asked or transaction.each or transaction.can_be_told:
            return False
        return screening.content_policies(inquiry) != screening.content_policies(transaction.asked[0])

    def _data(self, data: Data) -> Reply | Awaitable[Reply]:
        if self._reception.turnstile.crowded:
            return self._data_in_turn()
        return self._begin_intake(_WIRE) or answers.SEND_CONTENT

    async def _data_in_turn(self) -> Reply:
        await self._reception.turnstile.turn()
        return self._begin_intake(_WIRE) or answers.SEND_CONTENT

    def _begin_intake(self, form: Form) -> Reply | None:
        """Make a place for content, or say why there is none."""
        reception, transaction = self._reception, self._transaction or self._open_transaction()
        if not reception.spool.room(transaction.size):
            self._log_refusal(answers.NO_ROOM, sender=transaction.envelope.reverse_path)
            return answers.NO_ROOM
        try:
            intake = Intake(reception, form)
        except SpoolError:
            reception.log.failure("The spool has no place for a draft")
            return answers.OUR_FAULT
        asked = transaction.asked
        if asked and reception.screening is not None:
            spared = self._spared
            if spared is None:
                spared = self._spared = reception.screening.sparing(asked[0])
            told = spared(asked)
            if told is None:
                intake.show(transaction, reception.screening)
                self._intake = intake
                return None
            if reception.history is not None:
                transaction.steps += told
        placements = transaction.placements
        if type(placements[0].route) is Discard:
            intake.forgets = len(placements) == 1 or all(type(each.route) is Discard for each in placements)
        self._intake = intake
        return None

    def _chunk_ended(self, ended: ChunkEnded) -> Reply:
        """A chunk that is not the last: one that is refused ends the transaction (RFC 3030 section 2)."""
        size, fault = ended.size, ended.fault
        if self._intake is None and self._no_place is None:  # chunks of no octets
            self._no_place = self._begin_intake(Form.PLAIN)
        fault = fault or self._no_place or (self._intake.fault if self._intake is not None else None)
        if fault is None:
            return Reply.of(250, "2.0.0", f"{size} octets so far")
        transaction = self._open_transaction()
        self._log_refusal(fault, sender=transaction.envelope.reverse_path, size=size)
        self._forget()
        return fault

    def _content_ended(self, ended: ContentEnded) -> Answer | Awaitable[Answer]:
        size, transaction = ended.size, self._transaction or self._open_transaction()
        if self._intake is None and self._no_place is None:  # `BDAT 0 LAST`, and nothing before it
            self._no_place = self._begin_intake(Form.PLAIN)
        intake = self._intake
        self._transaction = None
        if intake is None:
            no_place, self._no_place = self._no_place, None
            return no_place or answers.OUR_FAULT
        fault = intake.judge(ended.fault)
        if fault is not None:
            self._intake = None
            self._log_refusal(
                fault, id=intake.id, message_id=intake.message_id, sender=transaction.envelope.reverse_path, size=size
            )
            return fault
        if intake.form is not _WIRE and self._reception.turnstile.crowded:  # the others have waited at DATA
            return self._promise_in_turn(intake, transaction, size)
        if intake.examination is not None:
            return self._examined(intake, transaction, size)
        # From here on it is the spool's, whatever becomes of the client.
        self._intake = None
        return intake.promise(transaction, size)

    async def _promise_in_turn(self, intake: Intake, transaction: Transaction, size: int) -> Answer:
        await self._reception.turnstile.turn()
        if self._intake is None:  # the client has gone
            return answers.OUR_FAULT
        if intake.examination is not None:
            said = self._examined(intake, transaction, size)
            return said if isinstance(said, Reply | Verdicts) else await said
        self._intake = None
        return await intake.promised(transaction, size)

    def _examined(self, intake: Intake, transaction: Transaction, size: int) -> Answer | Awaitable[Answer]:
        """Ask about the content, and do as the policies say."""
        try:
            judged = intake.examined(size)
        except OSError:
            judged = self._unread()
        except Exception:
            self._forget()  # what comes next is another message
            raise
        if not isinstance(judged, Judged):
            return self._examined_later(intake, judged, transaction, size)
        self._intake = None
        return intake.conclude(transaction, judged, size)

    async def _examined_later(
        self, intake: Intake, judging: Awaitable[Judged], transaction: Transaction, size: int
    ) -> Answer:
        try:
            said: Judged | Deferred[Judged] = start(judging)
            if isinstance(said, Deferred):
                self._judging = said
                said = await said
            judged = said
        except OSError:
            judged = self._unread()
        except CancelledError:  # the client has gone
            return answers.OUR_FAULT
        except Exception:
            self._forget()
            raise
        finally:
            self._judging = None
        self._intake = None
        answer = intake.conclude(transaction, judged, size)
        return answer if isinstance(answer, Reply | Verdicts) else await answer

    def _unread(self) -> Judged:
        self._reception.log.failure("Content could not be read for the policies")
        return Judged(Refused(answers.OUR_FAULT))

    def _open_transaction(self) -> Transaction:
        if self._transaction is None:
            raise RuntimeError("there is no transaction")
        return self._transaction

    def _log_refusal(self, reply: Reply, **fields: object) -> None:
        client = self._whom()
        self._reception.maillog.event(
            "refused",
            reply=str(reply),
            client=client.address,
            helo=client.helo,
            listener=client.listener,
            **{"user": client.user, **fields},
        )


#: Who answers what. It is asked for each command, and to compare them one by one took longer than many an answer.
_ANSWERS: Final[Mapping[type[Any], Callable[[Visit, Any], Answer | Awaitable[Answer]]]] = {
    Connected: Visit._connected,
    Hello: Visit._hello,
    StartTls: Visit._start_tls,
    Auth: Visit._authenticate,
    Response: Visit._authenticate,
    Cancelled: Visit._cancelled,
    Mail: Visit._mail,
    Rcpt: Visit._rcpt,
    Data: Visit._data,
    ChunkEnded: Visit._chunk_ended,
    ContentEnded: Visit._content_ended,
    Reset: Visit._reset,
    Noop: Visit._noop,
    Help: Visit._help,
    Verify: Visit._verify,
    Expand: Visit._expand,
    TurnQueue: Visit._turn_queue,
    XClient: Visit._introduced,
    Quit: Visit._quit,
    Misspoken: Visit._misspoken,
}
