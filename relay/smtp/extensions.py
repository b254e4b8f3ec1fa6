"""
The extension table: which keywords EHLO shows, to whom, and which parameters of MAIL and RCPT they bring.

A row is all that an extension adds to the grammar's esmtp. What an extension adds as a verb stands in
`relay.smtp.commands`, and how its values are read in `relay.smtp.esmtp`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from attrs import field, frozen

from relay.smtp import esmtp
from relay.smtp.esmtp import Reader


@frozen(cache_hash=True)
class Standing:
    """What a client has shown of itself so far, as far as it decides what it is offered."""

    #: It speaks TLS.
    secured: bool = False
    authenticated: bool = False
    #: It is in one of the `trusted` networks, or at a Unix socket.
    trusted: bool = False
    #: It may speak for clients of its own (XCLIENT).
    introducing: bool = False
    #: Somebody else speaks for it: TLS would be that one's, and so would whatever came behind a handshake.
    introduced: bool = False

    @property
    def known(self) -> bool:
        """Somebody whose wishes about time and precedence count."""
        return self.authenticated or self.trusted


STRANGER: Final = Standing()


def _everyone(standing: Standing) -> bool:
    return True


def _known(standing: Standing) -> bool:
    return standing.known


@frozen
class Extension:
    """One row: a keyword of EHLO, and what comes with it."""

    keyword: str
    #: Parameters of MAIL, by name in upper case.
    mail: Mapping[str, Reader] = field(factory=dict)
    #: Parameters of RCPT.
    rcpt: Mapping[str, Reader] = field(factory=dict)
    #: Who is shown it. To everybody else its parameters are unknown ones.
    to: Callable[[Standing], bool] = _everyone
    #: Whether it stands in the answer to EHLO only together with arguments, which are the session's own.
    needs_arguments: bool = False


#: RFC 2920: replies to commands that came together leave together.
PIPELINING = Extension("PIPELINING")
#: RFC 1870. EHLO shows the limit behind the keyword.
SIZE = Extension("SIZE", mail={"SIZE": esmtp.size})
#: RFC 6152.
EIGHT_BIT = Extension("8BITMIME", mail={"BODY": esmtp.body})
#: RFC 2034.
ENHANCED_STATUS = Extension("ENHANCEDSTATUSCODES")
#: RFC 6531.
SMTPUTF8 = Extension("SMTPUTF8", mail={"SMTPUTF8": esmtp.smtputf8})
#: RFC 3030: BDAT. BINARYMIME is another extension, since few next hops take it.
CHUNKING = Extension("CHUNKING")
BINARYMIME = Extension("BINARYMIME", mail={"BODY": esmtp.body_or_binary})
#: RFC 3461.
DSN = Extension(
    "DSN",
    mail={"RET": esmtp.ret, "ENVID": esmtp.envid},
    rcpt={"NOTIFY": esmtp.notify, "ORCPT": esmtp.orcpt},
)
#: RFC 5321 section 4.1.1.8; section 2.2.1 wants the keyword.
HELP = Extension("HELP")
#: RFC 5321 section 4.1.1.6 and 4.1.1.7.
VRFY = Extension("VRFY")
EXPN = Extension("EXPN", to=lambda standing: standing.authenticated)
#: RFC 3207.
STARTTLS = Extension("STARTTLS", to=lambda standing: not (standing.secured or standing.introduced))
#: RFC 4954. Its arguments are the mechanisms; none are possible, or would be wise, without TLS.
AUTH = Extension("AUTH", mail={"AUTH": esmtp.auth}, to=lambda standing: standing.secured, needs_arguments=True)
#: RFC 8689 section 2: only where the connection itself is encrypted.
REQUIRETLS = Extension("REQUIRETLS", mail={"REQUIRETLS": esmtp.requiretls}, to=lambda standing: standing.secured)
#: RFC 9422.
LIMITS = Extension("LIMITS")
#: RFC 2852.
DELIVERBY = Extension("DELIVERBY", mail={"BY": esmtp.by}, to=_known)
#: RFC 6710.
PRIORITY = Extension("MT-PRIORITY", mail={"MT-PRIORITY": esmtp.priority}, to=_known)
#: RFC 4865. Its arguments are how long we keep something back, and until when.
FUTURERELEASE = Extension(
    "FUTURERELEASE",
    mail={"HOLDFOR": esmtp.hold_for, "HOLDUNTIL": esmtp.hold_until},
    to=lambda standing: standing.authenticated,
    needs_arguments=True,
)
#: A reply for each recipient behind the content, in SMTP: draft-hall-prdr, as Exim has it.
PRDR = Extension("PRDR", mail={"PRDR": esmtp.prdr})
#: RFC 1985.
ETRN = Extension("ETRN", to=lambda standing: standing.trusted)
#: Postfix's, for a host that speaks for its own clients.
XCLIENT = Extension("XCLIENT", to=lambda standing: standing.introducing)

#: Every row, in the order in which EHLO shows those that a listener has.
ALL: Final[tuple[Extension, ...]] = (
    PIPELINING,
    SIZE,
    EIGHT_BIT,
    ENHANCED_STATUS,
    SMTPUTF8,
    CHUNKING,
    BINARYMIME,
    DSN,
    STARTTLS,
    AUTH,
    REQUIRETLS,
    LIMITS,
    DELIVERBY,
    PRIORITY,
    FUTURERELEASE,
    PRDR,
    ETRN,
    EXPN,
    VRFY,
    XCLIENT,
    HELP,
)

#: What a listener offers unless told otherwise; the others need something that has to be configured.
OFFERED: Final[tuple[Extension, ...]] = tuple(
    each for each in ALL if each not in (BINARYMIME, STARTTLS, AUTH, FUTURERELEASE, EXPN, XCLIENT)
)
