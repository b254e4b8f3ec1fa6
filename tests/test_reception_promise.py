"""From the commit to the reply: whichever way a spool answers, and whatever goes wrong meanwhile."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relay.interfaces import Claim, ClaimLost, OutcomeUnknown, SpoolError
from relay.mail.address import Address
from relay.mail.decision import Placement
from relay.mail.dsn import NO_WISHES
from relay.mail.envelope import Client, Envelope
from relay.mail.queue import recipients
from relay.mail.reply import Reply
from relay.mail.routing import Forward
from relay.net.waiting import Coming, start
from relay.reception.promise import Promise
from relay.reception.transaction import Transaction
from relay.reception.turnstile import Turnstile

CLAIM: Any = "a claim"
ANN, BOB = Address.parse("ann@far.example"), Address.parse("bob@here.example")
#: What comes of a commit, as far as it is nobody's bug.
OUTCOMES: Any = st.sampled_from(
    [(CLAIM,), (), SpoolError("full"), ClaimLost("gone"), OutcomeUnknown("?"), OSError("ours")]
)


async def _told(came: Any) -> Any:
    if isinstance(came, Exception):
        raise came
    return came


def _at_once(came: Any) -> tuple[Any, Callable[[], object]]:
    return _told(came), lambda: None


def _raised(came: Any) -> tuple[Any, Callable[[], object]]:
    if isinstance(came, Exception):
        raise came
    return came, lambda: None


def _by_deferred(came: Any) -> tuple[Awaitable[Any], Callable[[], object]]:
    waiting: Deferred[Any] = Deferred()
    return waiting, lambda: waiting.callback(Failure(came) if isinstance(came, Exception) else came)


def _by_coroutine(came: Any) -> tuple[Awaitable[Any], Callable[[], object]]:
    waiting: Deferred[None] = Deferred()

    async def later() -> Any:
        await waiting
        return await _told(came)

    return later(), lambda: waiting.callback(None)


def _coming(came: Any) -> tuple[Awaitable[Any], Callable[[], object]]:
    coming: Coming[Any] = Coming()
    return coming, lambda: coming.fail(Failure(came)) if isinstance(came, Exception) else coming.give(came)


def _come(came: Any) -> tuple[Awaitable[Any], Callable[[], object]]:
    coming, comes = _coming(came)
    comes()
    return coming, lambda: None


WAYS = (_at_once, _raised, _by_deferred, _by_coroutine, _coming, _come)


class PromiseTests(SynchronousTestCase):
    def promised(
        self, way: Callable[[Any], Any], came: Any, *, mute: bool = False, gone: bool = False, hearing: bool = False
    ) -> list[Any]:
        """
        What has become of it: what the dispatcher and the client heard. `mute`: the mail log does not work; `gone`:
        who waits for it does not; `hearing`: they are told in the order in which they heard.
        """
        told: list[Any] = []
        comes: list[Callable[[], object]] = []

        def commit(steps: Sequence[Any]) -> Any:
            waiting, later = way(came)
            comes.append(later)
            return waiting

        def row(shape: Any, row: Any) -> None:
            if mute:
                raise LookupError("the log is broken")

        def accept(claims: Sequence[Claim], left: Sequence[Any] = ()) -> None:
            told.append(("accepted", claims, [recipient.id for recipient in left]))

        turnstile = Turnstile(1)
        reception: Any = SimpleNamespace(
            spool=SimpleNamespace(commit=commit),
            maillog=SimpleNamespace(row=row),
            dispatch=SimpleNamespace(accept=accept),
            history=None,
            turnstile=turnstile,
            log=Logger(),
        )
        envelope = Envelope(ANN, client=Client("192.0.2.7", 4711, "client.example", True, "mx"))
        placements = (Placement(BOB, BOB, Forward("far.example"), "onward", "", NO_WISHES),)
        transaction = Transaction(envelope, "", 10)
        transaction.placements, transaction.recipients = placements, 1
        promise = Promise(reception, transaction, "ID", "<id@x>", recipients("ID", placements), 10, None)
        enrol: Any = None
        try:
            reply = promise.enrol(enrol)
            self.assertEqual(turnstile.crowded, reply is promise)
            if isinstance(reply, Promise):
                self.assertEqual(told, [])
                if hearing:
                    reply.addCallbacks(lambda reply: told.append(str(reply)), told.append)
                    comes[0]()
                    return told
                if gone:
                    reply.addCallbacks(lambda reply: 1 // 0, lambda failure: failure.raiseException())
                    self.fails(comes[0])
                    return told
                answer = start(reply)
                assert isinstance(answer, Deferred)
                comes[0]()
                reply = self.successResultOf(answer.addErrback(lambda failure: failure.value))
            told.append(reply)
        except Exception as problem:
            told.append(problem)
        self.assertFalse(turnstile.crowded)
        return [str(each) if isinstance(each, Reply | Exception) else each for each in told]

    def fails(self, comes: Callable[[], object]) -> None:
        try:
            comes()
        except Exception as problem:
            self.assertIsInstance(problem, ZeroDivisionError | OutcomeUnknown | OSError)

    @given(OUTCOMES, st.booleans())
    def test_it_is_the_same_whichever_way_the_spool_answers(self, came: Any, mute: bool) -> None:
        told = [self.promised(way, came, mute=mute) for way in WAYS]
        self.flushLoggedErrors(SpoolError)
        self.assertEqual(told, [told[0]] * len(WAYS))

    def test_who_waits_hears_of_it_before_it_is_carried(self) -> None:
        for way in (_by_deferred, _by_coroutine, _coming):
            self.assertEqual(
                self.promised(way, (CLAIM,), hearing=True), ["250 2.0.0 Ok: queued as ID", ("accepted", (CLAIM,), [])]
            )

    def test_what_is_kept_is_carried_and_answered(self) -> None:
        self.assertEqual(self.promised(_coming, (CLAIM,)), [("accepted", (CLAIM,), []), "250 2.0.0 Ok: queued as ID"])
        self.assertEqual(self.promised(_coming, ()), [("accepted", (), ["ID.0"]), "250 2.0.0 Ok: queued as ID"])

    def test_what_is_kept_is_carried_although_nobody_can_be_told_of_it(self) -> None:
        for way in WAYS:
            self.assertEqual(self.promised(way, (CLAIM,), mute=True), [("accepted", (CLAIM,), []), "the log is broken"])

    def test_so_it_is_where_the_answer_meets_nobody(self) -> None:
        for way in (_by_deferred, _by_coroutine, _coming):
            self.assertEqual(self.promised(way, (CLAIM,), gone=True), [("accepted", (CLAIM,), [])])
        # A `Deferred` says so of what nobody has heard when it goes.
        gc.collect()
        self.flushLoggedErrors(ZeroDivisionError)

    def test_what_was_not_kept_for_certain_is_451_and_where_nobody_knows_somebody_looks(self) -> None:
        (said,) = self.promised(_coming, SpoolError("full"))
        self.assertEqual(said[:10], "451 4.3.0 ")
        self.assertEqual(len(self.flushLoggedErrors(SpoolError)), 1)
        self.assertEqual(self.promised(_coming, OutcomeUnknown("?")), [("accepted", (), []), "?"])
        self.assertEqual(self.promised(_coming, OSError("ours")), ["ours"])
