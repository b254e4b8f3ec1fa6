"""
What MAIL and RCPT say of a message: what it needs, and what the server takes (RFC 5321 section 4.1.1.11).

Nothing is asked for that was not offered; and a copy that needs what was not offered is not sent.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import field, frozen

from relay.mail.dsn import NO_WISHES, Notify, Wishes
from relay.mail.envelope import ByMode
from relay.mail.outcome import Need
from relay.smtp.features import Features
from relay.smtp.transaction import Transaction

_TO_ENCODE = re.compile(r"[^!-*,-<>-~]")
#: RFC 3461 section 4.1: in the order in which it names them.
_NOTIFY = (Notify.NEVER, Notify.SUCCESS, Notify.FAILURE, Notify.DELAY)
#: Of nothing, and of what a server tells of that was asked for nothing (RFC 3461 section 4.1).
_NEVER = frozenset({Notify.NEVER})
#: RFC 4954 section 5: we are known there, and do not vouch for who gave us the message.
_UNVOUCHED: Final = " AUTH=<>"
_BY_DEFAULT = frozenset({Notify.FAILURE})


@frozen
class Terms:
    """What counts for all transactions on a connection."""

    features: Features
    #: The server is known by its certificate.
    verified: bool = False
    #: That it is the server for this mail is certain (`relay.mail.outcome.Peer`).
    assured: bool = False
    #: The server knows who we are.
    authenticated: bool = False
    #: Who takes the mail delivers it: whoever wants to hear of that hears it from us.
    lmtp: bool = False

    # What follows from these, for what is said of nearly every message.

    #: Of a sender, a size, a recipient and what is wished for it: MAIL, RCPT and DATA as `plainly` says them, and the
    #: same of content with 8BITMIME. "": there is no such piece.
    plain: str = field(init=False, repr=False, eq=False)
    plain_eight_bit: str = field(init=False, repr=False, eq=False)
    #: The largest message that is taken.
    largest: float = field(init=False, repr=False, eq=False)
    #: Whether a server is told what the sender wishes.
    wishes: bool = field(init=False, repr=False, eq=False)

    @plain.default
    def _form(self) -> str:
        return self._with("") if self.features.pipelining else ""

    @plain_eight_bit.default
    def _form_with_eight_bit(self) -> str:
        return self._with(" BODY=8BITMIME") if self.features.pipelining and self.features.eight_bit else ""

    def _with(self, body: str) -> str:
        size = " SIZE=%d" if self.features.sized else "%.0s"
        auth = _UNVOUCHED if self.authenticated and self.features.authenticates else ""
        return f"MAIL FROM:<%s>{size}{body}{auth}\r\nRCPT TO:<%s>%s\r\nDATA\r\n"

    @largest.default
    def _bound(self) -> float:
        return self.features.size or float("inf")

    @wishes.default
    def _hears_of_wishes(self) -> bool:
        return self.features.dsn and not self.lmtp


def lacking(transaction: Transaction, terms: Terms) -> Need | None:
    """What the message needs for each recipient and cannot be had, or `None`."""
    features = terms.features
    if features.size and transaction.size > features.size:
        return Need.SIZE
    if transaction.binary and not features.binary:
        return Need.BINARY
    if transaction.eight_bit and not features.eight_bit:
        return Need.EIGHT_BIT
    if not features.smtputf8 and _needs_smtputf8(transaction):
        return Need.SMTPUTF8
    # RFC 8689 section 4.2.1: who it is must be certain, and that it is the one who was meant. A notice is not lost for
    # it (section 5): it has no more than a header in it.
    guarded = transaction.require_tls and transaction.reverse_path is not None
    if guarded and not (terms.verified and terms.assured and features.requires_tls):
        return Need.REQUIRE_TLS
    if transaction.by is not None and transaction.by.mode is ByMode.RETURN:
        # RFC 2852 section 4.1.4: whoever does not promise to return it in time must not have it.
        least = features.deliver_by
        if least is None or transaction.by.seconds < max(1, least):
            return Need.DELIVER_BY
    return None


def mail(transaction: Transaction, terms: Terms) -> str:
    """MAIL. Where SMTPUTF8 is not offered RCPT is never said of a recipient who needs it; elsewhere of all of them."""
    features, reverse_path = terms.features, transaction.reverse_path
    line = "MAIL FROM:<>" if reverse_path is None else f"MAIL FROM:<{reverse_path}>"
    if features.sized and transaction.size:
        line += f" SIZE={transaction.size}"
    if transaction.binary:
        line += " BODY=BINARYMIME"
    elif features.eight_bit and (transaction.eight_bit or transaction.international):
        line += " BODY=8BITMIME"
    if features.smtputf8 and (_needs_smtputf8(transaction) or not all([each.ascii for each in transaction.recipients])):
        # Only what needs it asks for it (RFC 6531 section 3.4): the next hop then has fewer reasons to refuse.
        line += " SMTPUTF8"
    if (
        terms.authenticated
        or transaction.by is not None
        or transaction.envid
        or transaction.require_tls
        or transaction.returns is not None
        or transaction.priority is not None
    ):
        line += _particulars(transaction, terms)
    return line


def _particulars(transaction: Transaction, terms: Terms) -> str:
    features, words = terms.features, ""
    if features.dsn and not terms.lmtp:
        if transaction.returns is not None:
            words += f" RET={transaction.returns.value}"
        if transaction.envid:
            words += f" ENVID={transaction.envid}"
    if terms.authenticated and features.authenticates:
        words += _UNVOUCHED
    if transaction.require_tls and features.requires_tls:
        words += " REQUIRETLS"
    if transaction.priority is not None and features.prioritizes:
        words += f" MT-PRIORITY={transaction.priority}"
    least = features.deliver_by
    if transaction.by is not None and least is not None and (not least or transaction.by.seconds >= least):
        trace = "T" if transaction.by.trace else ""
        words += f" BY={transaction.by.seconds};{transaction.by.mode.value}{trace}"
    return words


def rcpt(transaction: Transaction, index: int, terms: Terms) -> str:
    """RCPT of the recipient at this place."""
    line = f"RCPT TO:<{transaction.recipients[index]}>"
    if terms.features.dsn and not terms.lmtp:
        wishes = transaction.wishes[index] if transaction.wishes else NO_WISHES
        by = transaction.by
        # RFC 2852 section 4.1.4.2: a server that looks at no clock should at least say when it is late.
        unwatched = by is not None and by.mode is ByMode.NOTIFY and terms.features.deliver_by is None
        line += _wishes(wishes, delay=unwatched and transaction.reverse_path is not None)
    return line


def plainly(form: str, terms: Terms, sender: str, size: int, recipient: str, orcpt: str = "") -> bytes:
    """
    MAIL, RCPT and DATA in one piece (RFC 2920 section 3.1), each as it is said of a transaction for one recipient, with
    its content behind DATA, of which nothing has to be said but, at most, that it is 8BITMIME, and, as in `Wishes`,
    whom its sender wrote to.

    `form` is that of the `terms`. A `sender` of "" is the null reverse-path. Empty if it is not certain at first sight
    that nothing is lacking and that the server wants it so.
    """
    if not form or not 0 < size <= terms.largest:
        return b""
    words = " ORCPT=" + orcpt if orcpt and terms.wishes else ""
    texts = sender + recipient + words
    # No octet that a command must not have, and nothing that SMTPUTF8 would be needed for.
    if texts.isascii() and texts.isprintable():
        return (form % (sender, size, recipient, words)).encode()
    return b""


def _wishes(wishes: Wishes, *, delay: bool) -> str:
    words = ""
    if wishes is NO_WISHES and not delay:
        return words
    notify = wishes.notify
    if delay and notify != _NEVER:
        notify = (notify or _BY_DEFAULT) | {Notify.DELAY}
    if notify:
        words += " NOTIFY=" + ",".join(one.value for one in _NOTIFY if one in notify)
    if wishes.orcpt:
        words += f" ORCPT={ascii_form(wishes.orcpt)}"
    return words


def xtext(text: str) -> str:
    """ASCII in xtext (RFC 3461 section 4)."""
    return _TO_ENCODE.sub(_encoded, text)


def _encoded(found: re.Match[str]) -> str:
    return f"+{ord(found[0]):02X}"


def ascii_form(orcpt: str) -> str:
    """The address in UTF-8 as one that may stand in any dialogue (RFC 6533 section 3)."""
    if orcpt.isascii():
        return orcpt
    return "".join(c if c.isascii() else f"\\x{{{ord(c):X}}}" for c in orcpt)


def _needs_smtputf8(transaction: Transaction) -> bool:
    """Whether the message needs it for each recipient, whatever the recipient's own address."""
    reverse_path = transaction.reverse_path
    return transaction.international or (reverse_path is not None and not reverse_path.ascii)
