"""The promise at the end of content (law L1: no 250 before the commit has returned)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from twisted.python.failure import Failure

from relay.interfaces import Claim, Enrol, OutcomeUnknown, SpoolError
from relay.mail.decision import Placement
from relay.mail.event import ACCEPTED, DISCARDED, HELD
from relay.mail.queue import Recipient
from relay.mail.reply import Reply
from relay.mail.routing import Discard, Hold
from relay.net.waiting import Coming, start
from relay.reception.accounts import decided
from relay.reception.reception import Reception
from relay.reception.transaction import Transaction
from relay.reception.weighing import Judged
from relay.smtp import answers

#: What the mail log says of copies that nobody will carry now; of all others it will have more to say.
_ENDS: Final = {Discard: DISCARDED, Hold: HELD}
#: How many recipients the line of an accepted message names.
_SHOWN: Final = 20


class Promise(Coming[Reply]):
    """
    The reply to a message that is enrolled: 250 when it is kept, or 451 if it is certain that it was not.

    It is the spool's from then on, and nobody can call it off: what is kept is carried, though its client be gone.
    """

    def __init__(
        self,
        reception: Reception,
        transaction: Transaction,
        id: str,
        message_id: str,
        kept: tuple[Recipient, ...],
        size: int,
        judged: Judged | None,
    ) -> None:
        """`kept`: the recipients that are enrolled."""
        self._reception = reception
        self._transaction = transaction
        self._id = id
        self._message_id = message_id
        self._kept = kept
        self._size = size
        self._judged = judged

    def enrol(self, enrol: Enrol) -> Reply | Promise:
        """Have it kept. The reply, if that is done at once; an exception of the spool's is raised if it is."""
        reception = self._reception
        reception.turnstile.enter()
        # Claims, or what has them later.
        claims: Any
        try:
            claims = reception.spool.commit((enrol,))
            if not isinstance(claims, Coming):
                claims = start(claims)
        except Exception:
            self._not_kept(Failure())
            return self.now()
        if type(claims) is tuple:
            self._is_kept(claims)
        else:
            claims.addCallbacks(self._is_kept, self._not_kept)
        return self if self.early is None else self.now()

    def _is_kept(self, claims: Sequence[Claim]) -> None:
        reception = self._reception
        reception.turnstile.leave()
        try:
            try:
                reply = self.accepted()
            except Exception:
                self.fail(Failure())
            else:
                # The client first: it is further away than the next hop, and has waited.
                self.give(reply)
        finally:
            # Also where something went wrong with telling of it.
            reception.dispatch.accept(claims, () if claims else self._kept)

    def _not_kept(self, failure: Failure) -> None:
        """The client is told so, or nothing where nobody can say what has become of the message."""
        reception = self._reception
        reception.turnstile.leave()
        if failure.check(OutcomeUnknown):
            # If it was kept, it will be due when the lease ends that it was kept with: somebody has to look then.
            reception.dispatch.accept(())
        elif failure.check(SpoolError):
            reception.log.failure("A message was not kept, the client is told 451", failure)
            self.give(answers.OUR_FAULT)
            return
        self.fail(failure)

    def accepted(self) -> Reply:
        """The reply, once it is true; the mail log and the history are told."""
        reception, transaction, id, judged = self._reception, self._transaction, self._id, self._judged
        placements, envelope = transaction.placements, transaction.envelope
        client = envelope.client
        # As it is nearly always.
        only = placements[0] if len(placements) == 1 else None
        reception.maillog.row(
            ACCEPTED,
            (
                id,
                envelope.reverse_path or "<>",
                transaction.recipients,
                _named(placements) if only is None else only.original.text,
                self._size,
                self._message_id,
                client.address,
                client.helo,
                client.listener,
                client.user,
                None if client.tls is None else client.tls.protocol,
                "" if judged is None else ", ".join(judged.editors),
            ),
        )
        if only is None:
            for placement in placements:
                self._tell_of_end(placement)
        elif type(only.route) in _ENDS:
            self._tell_of_end(only)
        reply = Reply(250, "2.0.0", (f"Ok: queued as {id}",))
        if reception.history is not None:
            reception.history.decided(decided(transaction, reply, only), id)
        return reply

    def _tell_of_end(self, placement: Placement) -> None:
        """If nobody will carry this copy now, the mail log hears of it at once."""
        shape = _ENDS.get(type(placement.route))
        if shape is not None:
            address, original = placement.address, placement.original
            other = None if original is address or original == address else original
            self._reception.maillog.row(shape, (self._id, address, other, placement.policy, placement.because))


def _named(placements: Iterable[Placement]) -> str:
    """The recipients as the client named them, as far as one line should show them."""
    named = list(dict.fromkeys(placement.original.text for placement in placements))
    more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    return ", ".join(named[:_SHOWN]) + more
