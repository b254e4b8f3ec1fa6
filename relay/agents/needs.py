"""What the dialogue must know of a consignment: some of it stands in the content, which is read as far as need be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import Final

from relay.interfaces import Consignment
from relay.mail.address import Address
from relay.mail.dsn import Wishes
from relay.mail.envelope import Body, DeliverBy, Envelope, Form
from relay.mail.queue import Recipient
from relay.mail.routing import Forward
from relay.smtp.features import Features
from relay.smtp.octets import plain
from relay.smtp.parameters import Terms, plainly, xtext
from relay.smtp.transaction import By, Transaction

#: RFC 3461 section 4.2: what any server with DSN takes.
_ORCPT: Final = 500
#: RFC 5321 section 4.5.3.1.6, without the CRLF: what any server takes.
_LINE: Final = 998
#: Members of an enumeration are looked up slowly.
_SEVEN_BIT: Final = Body.SEVEN_BIT
_EIGHT_BIT: Final = Body.EIGHT_BIT
_KEPT_PLAIN: Final = Form.PLAIN
#: What a client may have said of a message beside whose it is and what octets it has; and what most say.
_particulars: Final = attrgetter("smtputf8", "envid", "require_tls", "returns", "priority", "deliver_by")
_NONE: Final = (False, "", False, None, None, None)


def transaction_for(
    consignment: Consignment,
    features: Features,
    recipients: Sequence[Recipient] | None = None,
    *,
    now: float = 0.0,
    clear: bool = False,
) -> Transaction:
    """
    What the dialogue must know about a consignment, for these of its recipients (all of them, if none are said), at
    `now` by the spool's clock. `clear`: what the server is told goes no way on which anybody could listen.

    The content is read only as far as the answer depends on it.
    """
    envelope, content = consignment.entry.envelope, consignment.content
    recipients = consignment.recipients if recipients is None else recipients
    body = _body(envelope, consignment, features)
    return Transaction(
        # Whoever makes consignments puts together only those whose routes say the same of it.
        _reverse_path(envelope, recipients[0]) if recipients else envelope.reverse_path,
        tuple([recipient.address for recipient in recipients]),
        len(consignment.head) + content.size,
        eight_bit=body is Body.EIGHT_BIT,
        binary=body is Body.BINARY,
        international=envelope.smtputf8 and not _has_ascii_header(consignment),
        # As it was kept: taking dots out that DATA wants, or putting them in, costs more than anything else.
        chunked=features.chunking and (content.form is Form.PLAIN or body is Body.BINARY),
        wishes=tuple([Wishes(each.wishes.notify, _orcpt(each)) for each in recipients]) if features.dsn else (),
        returns=envelope.returns,
        envid=envelope.envid,
        require_tls=envelope.require_tls and not clear,
        priority=envelope.priority,
        by=None if envelope.deliver_by is None else _by(envelope.deliver_by, now),
    )


def proposal_for(consignment: Consignment, terms: Terms) -> bytes:
    """
    What is said of `transaction_for` the only one of its recipients, up to the content, if its client has said no more
    of the message than most do, and no content need be read (`plainly`). Else nothing.
    """
    envelope, content, recipient = consignment.entry.envelope, consignment.content, consignment.recipients[0]
    body = envelope.body
    form = terms.plain if body is _SEVEN_BIT else terms.plain_eight_bit if body is _EIGHT_BIT else ""
    if (
        not form
        or _particulars(envelope) != _NONE
        # It may be sent in chunks.
        or (content.form is _KEPT_PLAIN and terms.features.chunking)
    ):
        return b""
    orcpt = ""
    if terms.wishes:
        if recipient.wishes.notify is not None:
            return b""
        orcpt = _orcpt(recipient)
    sender = _reverse_path(envelope, recipient)
    return plainly(
        form,
        terms,
        "" if sender is None else sender.text,
        len(consignment.head) + content.size,
        recipient.address.text,
        orcpt,
    )


def _reverse_path(envelope: Envelope, recipient: Recipient) -> Address | None:
    """The sender, as the recipient's route has it. Who sends a notice is never another."""
    reverse_path, route = envelope.reverse_path, recipient.route
    if reverse_path is not None and type(route) is Forward and route.reverse_path is not None:
        return route.reverse_path
    return reverse_path


def _by(deliver_by: DeliverBy, now: float) -> By:
    """RFC 2852 section 4.1.4: what is left of the time."""
    seconds = max(-999_999_999, min(999_999_999, int(deliver_by.until - now)))
    return By(seconds, deliver_by.mode, deliver_by.trace)


def _orcpt(recipient: Recipient) -> str:
    """
    The address that the sender wrote: where nobody has named that in ORCPT, we know it best (RFC 3461 section 5.2.1).
    One that is not ASCII has another type (RFC 6533 section 3), which who asked in ASCII cannot want.
    """
    orcpt = recipient.wishes.orcpt
    if orcpt:
        return orcpt
    original = recipient.original
    orcpt = "rfc822;" + xtext(original.text)
    return orcpt if original.ascii and len(orcpt) <= _ORCPT else ""


def _body(envelope: Envelope, consignment: Consignment, features: Features) -> Body:
    """
    What the content needs. Where it is offered the client's word is passed on; where it is not, all of the content is
    read before it is refused.
    """
    if envelope.body is _SEVEN_BIT:
        return Body.SEVEN_BIT
    if envelope.body is Body.BINARY and (features.binary or _is_binary(_plain(consignment))):
        return Body.BINARY
    if features.eight_bit:
        return Body.EIGHT_BIT
    return Body.SEVEN_BIT if all(block.isascii() for block in _octets(consignment)) else Body.EIGHT_BIT


def _is_binary(blocks: Iterable[bytes]) -> bool:
    """Whether it has a CR or LF alone, a NUL, or a line that is too long for DATA (RFC 3030 section 3)."""
    held = b""
    for block in blocks:
        # What is not known to be a whole line yet is kept, and is never longer than one may be.
        octets = held + block
        end = octets.rfind(b"\r\n") + 2 if b"\r\n" in octets else 0
        held = octets[end:]
        if len(held) > _LINE + 1 or any(_odd(line) for line in octets[:end].split(b"\r\n")):
            return True
    return _odd(held)


def _odd(line: bytes) -> bool:
    return len(line) > _LINE or b"\r" in line or b"\n" in line or b"\0" in line


def _has_ascii_header(consignment: Consignment) -> bool:
    """Whether the header section is ASCII. Reads no further than its end, and keeps nothing of it."""
    seam = b"\r\n"  # so that a message that begins with an empty line has an empty header section
    for block in _octets(consignment):
        octets = seam + block
        end = octets.find(b"\r\n\r\n")
        if end >= 0:
            return octets[:end].isascii()
        if not block.isascii():
            return False
        seam = octets[-3:]
    return True


def _octets(consignment: Consignment) -> Iterator[bytes]:
    """The message from its first octet. Stuffed dots, if there are any, do not matter to who asks."""
    return chain((consignment.head,), consignment.content.blocks())


def _plain(consignment: Consignment) -> Iterator[bytes]:
    content = consignment.content
    return chain((consignment.head,), plain(content.blocks()) if content.form is Form.WIRE else content.blocks())
