"""
What kind of trouble a refusal is, in a word for people who count them: `class` in the mail log.

Nothing is decided by it. What mail comes to is decided by `relay.delivery.trouble`, from codes; here the words of a
reply count too, since providers that say 550 5.7.1 for everything say in words what they mean. The rows name whose
words they are, as their public documentation or the source of their server has them.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final, assert_never

from attrs import field, frozen

from relay.mail import selection
from relay.mail.outcome import (
    Answered,
    Breakage,
    Broke,
    Carried,
    Fact,
    Misbehaved,
    NameTrouble,
    Need,
    Phase,
    RefusedByPolicy,
    Unauthenticated,
    Unencrypted,
    Unresolved,
    Unsuitable,
    Unwritten,
)
from relay.mail.reply import Reply

#: As much of a reply is looked at: what there is to say is said by then.
_LOOKED_AT: Final = 1000


class Kind(Enum):
    """All kinds there are."""

    NO_SUCH_USER = "no_such_user"
    #: There is such a mailbox, and it takes no mail: disabled, suspended, not used for long.
    INACTIVE = "inactive"
    FULL = "mailbox_full"
    #: The content was taken for spam, or has in it what may do harm.
    CONTENT = "content"
    #: Where it comes from has a bad name: an address or a domain on a list of them.
    REPUTATION = "reputation"
    #: SPF, DKIM, DMARC, or the name of our address in the DNS.
    AUTHENTICITY = "authenticity"
    POLICY = "policy"
    #: Too much in a time, or at once.
    RATE = "rate"
    GREYLISTING = "greylisting"
    TOO_LARGE = "too_large"
    #: It is wrong in itself, or needs what the server does not have.
    MESSAGE = "message"
    #: We are not let in, or should have said who we are.
    LOGIN = "login"
    RELAYING = "relaying_denied"
    TLS = "tls"
    DNS = "dns"
    CONNECTION = "connection"
    LOOP = "loop"
    #: The other server is full, broken, busy or about to stop.
    SERVER = "server"
    OURSELVES = "ourselves"
    OTHER = "other"


def _set(values: Iterable[object]) -> frozenset[object]:
    return frozenset(values)


@frozen
class Row:
    """It fits a reply in which all of `words` stand, in any letter case, with one of the statuses, codes and phases."""

    kind: Kind
    words: tuple[str, ...] = ()
    #: `5.2.2` as it is, `2.2` of either class. An empty set fits always; a reply without a status fits only that.
    status: frozenset[object] = field(default=(), converter=_set)
    code: frozenset[object] = field(default=(), converter=_set)
    at: frozenset[object] = field(default=(), converter=_set)


def _said(kind: Kind, *texts: str) -> tuple[Row, ...]:
    """A row for each text; what `...` stands between may be anywhere."""
    return tuple(Row(kind, tuple(part for part in text.split("...") if part)) for text in texts)


def _status(kind: Kind, *statuses: str, at: Iterable[Phase] = ()) -> Row:
    return Row(kind, status=statuses, at=at)


def _code(kind: Kind, *codes: int, at: Iterable[Phase] = ()) -> Row:
    return Row(kind, code=codes, at=at)


_AT_LOGIN = (Phase.AUTH,)
_AT_TLS = (Phase.STARTTLS,)
_WELCOME = (Phase.GREETING, Phase.HELLO)
_NAMES = (Phase.RCPT, Phase.COPY)
_MESSAGE = (Phase.MAIL, Phase.DATA, Phase.CONTENT, Phase.END)

K = Kind

#: The first that fits decides: words of one provider, then words that many use, then statuses, then codes.
TABLE: Final[tuple[Row, ...]] = (
    # What is asked of us at a time when nothing else is asked.
    Row(K.LOGIN, at=_AT_LOGIN),
    Row(K.TLS, at=_AT_TLS),
    # -- Words of one provider --
    #
    # Outlook.com and Exchange Online (Microsoft: "Non-delivery reports in Exchange Online", the postmaster's pages).
    *_said(K.NO_SUCH_USER, "recipient address rejected: access denied", "resolver.adr."),
    *_said(K.RELAYING, "tenantattribution"),
    *_said(K.REPUTATION, "banned sending ip", "(s3140)", "(s3150)"),
    *_said(K.AUTHENTICITY, "required authentication level"),
    *_said(K.RATE, "exceeded the maximum number of connections", "concurrent connections limit", "server busy...(as"),
    *_said(K.RATE, "rp-001", "rp-002", "rp-003"),
    *_said(K.CONTENT, "sc-001", "sc-002"),
    *_said(K.FULL, "quotaexceeded"),
    # Gmail ("SMTP error messages and codes", "Email sender guidelines").
    *_said(K.RATE, "unusual rate of", "receiving mail at a rate that", "receiving mail too quickly"),
    *_said(K.RATE, "sending quota exceeded"),
    *_said(K.CONTENT, "content presents a potential security issue"),
    *_said(K.MESSAGE, "not rfc 5322 compliant"),
    # Yahoo and AOL ("SMTP error codes" of the sender hub).
    *_said(K.REPUTATION, "retrying will not succeed", "[bl21]", "[bl23]"),
    *_said(K.RATE, "unexpected volume", "[tss", "[ts0"),
    *_said(K.INACTIVE, "this mailbox is disabled"),
    # iCloud ("Postmaster information for iCloud Mail").
    *_said(K.POLICY, "[cs01]", "[hm0"),
    # Proofpoint's and Comcast's lists.
    *_said(K.REPUTATION, "ipcheck.proofpoint.com", "bl000"),
    # Mimecast ("SMTP error codes").
    *_said(K.POLICY, "administrative prohibition", "envelope blocked", "manually blocked senders"),
    # -- Statuses that nobody says without meaning it --
    #
    _status(K.NO_SUCH_USER, "1.1", "1.6"),
    # RFC 7505: the domain takes no mail.
    _status(K.DNS, "1.2", "1.10"),
    _status(K.FULL, "2.2"),
    _status(K.TOO_LARGE, "2.3", "3.4"),
    _status(K.LOOP, "4.6"),
    # -- Words that many use --
    #
    # Postfix, of a sender: before what else is said there of domains that do not exist.
    *_said(K.POLICY, "sender address rejected", "sender rejected", "sender denied"),
    # Lists of addresses: what their replies name.
    *_said(K.REPUTATION, "spamhaus", "spamcop", "barracudacentral", "sorbs.net", "uceprotect", "abusix"),
    *_said(K.REPUTATION, "blocked using", "blacklist", "blocklist", "block list", "dnsbl", "reputation"),
    *_said(K.GREYLISTING, "greylist", "graylist", "grey-list", "grey list", "gray list"),
    *_said(K.RELAYING, "relay access denied", "relaying denied", "relay not permitted", "unable to relay"),
    *_said(K.RELAYING, "not permitted to relay", "allowed rcpthosts", "relaying not allowed"),
    *_said(K.RATE, "rate limit", "too many connections", "too many messages", "too many concurrent", "throttl"),
    *_said(K.RATE, "too many emails", "too many recipients", "sending limit"),
    *_said(K.FULL, "mailbox full", "mailbox is full", "over quota", "overquota", "quota exceeded", "quota has been"),
    *_said(K.FULL, "out of storage", "exceeded storage", "inbox is full"),
    *_said(K.TOO_LARGE, "message size exceeds", "message too large", "message too big", "exceeds size limit"),
    *_said(K.TOO_LARGE, "size limit exceeded", "maximum message size"),
    *_said(K.INACTIVE, "account...disabled", "mailbox disabled", "is inactive", "suspended", "deactivated"),
    *_said(K.NO_SUCH_USER, "user unknown", "unknown user", "no such user", "user not found", "no such recipient"),
    *_said(K.NO_SUCH_USER, "recipient not found", "mailbox not found", "no such mailbox", "unknown recipient"),
    *_said(K.NO_SUCH_USER, "recipient unknown", "does not exist", "doesn't exist", "no mailbox here by that name"),
    *_said(K.NO_SUCH_USER, "unrouteable address", "invalid recipient", "invalid mailbox", "not a valid mailbox"),
    *_said(K.NO_SUCH_USER, "unknown address", "address unknown", "user doesn't have"),
    *_said(K.AUTHENTICITY, "dmarc", "dkim", "spf ", "spf:", "sender policy framework", "unauthenticated"),
    *_said(K.AUTHENTICITY, "reverse dns", "rdns", "cannot find your hostname", "cannot find your reverse hostname"),
    *_said(K.AUTHENTICITY, "ptr record", "ptr resource record"),
    *_said(K.CONTENT, "spam", "virus", "malware", "phishing", "unsolicited", "malicious", "content rejected"),
    *_said(K.CONTENT, "attachment"),
    *_said(K.LOGIN, "authentication required", "authentication is required", "must be authenticated"),
    *_said(K.TLS, "must issue a starttls", "tls is required", "tls required", "encryption required"),
    *_said(K.LOOP, "too many hops", "mail loop", "loops back to", "routing loop"),
    *_said(K.SERVER, "server busy", "too busy", "system load", "insufficient system", "disk full", "shutting down"),
    *_said(K.POLICY, "local policy", "policy reasons", "policy violation", "rejected by policy", "prohibited by"),
    *_said(K.POLICY, "access denied", "not authorized"),
    # -- Statuses: RFC 3463 and the registry that RFC 5248 has begun --
    #
    _code(K.LOGIN, 530),
    # Which reason 4.7.1 to a recipient has is mostly that we are new.
    _status(K.GREYLISTING, "4.7.1", at=_NAMES),
    # None of that syntax, or several; RFC 7293: another person's by now.
    _status(K.NO_SUCH_USER, "1.3", "1.4", "7.17"),
    _status(K.DNS, "4.3", "4.4"),
    _status(K.INACTIVE, "2.1", "7.13"),
    _status(K.LOGIN, "7.8", "7.9", "7.12", "7.14", "7.15"),
    _status(K.TLS, "7.4", "7.5", "7.10", "7.11", "7.30"),
    # RFC 7372; 7.27 is the sender's null MX (RFC 7505), 7.29 is ARC's.
    _status(K.AUTHENTICITY, "7.20", "7.21", "7.22", "7.23", "7.24", "7.25", "7.26", "7.27", "7.29", "1.8"),
    _status(K.RATE, "7.28", "4.5", "5.3"),
    _status(K.CONNECTION, "4.1", "4.2"),
    # X.1.7: the sender's address; X.7.7: integrity.
    _status(K.POLICY, "7.0", "7.1", "7.2", "7.3", "7.6", "7.7", "7.16", "7.18", "1.7"),
    _status(K.MESSAGE, "6.0", "6.1", "6.2", "6.3", "6.4", "6.5", "6.6", "6.7", "6.8", "6.9", "6.10", "3.3"),
    _status(K.SERVER, "3.0", "3.1", "3.2", "3.5"),
    # -- Codes: RFC 5321 section 4.2.3, where nothing else was said --
    #
    _code(K.SERVER, 421),
    # A host that does not want to hear from us at all says so when we come.
    _code(K.REPUTATION, 550, 554, at=_WELCOME),
    Row(K.SERVER, at=_WELCOME),
    _code(K.NO_SUCH_USER, 550, 551, 553, at=_NAMES),
    _code(K.GREYLISTING, 450, 451, at=_NAMES),
    _code(K.RATE, 452, at=_NAMES),
    _code(K.FULL, 552, at=_NAMES),
    _code(K.TOO_LARGE, 552, at=_MESSAGE),
    _code(K.SERVER, 451, 452, at=_MESSAGE),
)


def kind_of(fact: Fact) -> Kind | None:
    """The kind of trouble that a fact is; `None` where it is none."""
    match fact:
        case Carried():
            return None
        case Answered():
            return kind_of_reply(fact.reply, fact.phase)
        case RefusedByPolicy(because=selection.BY_OPERATOR):
            return Kind.OTHER  # nobody else has refused anything, and nothing is known of the mailbox
        case RefusedByPolicy():
            return kind_of_reply(fact.reply, Phase.RCPT)
        case Broke():
            return Kind.OURSELVES if fact.breakage is Breakage.NO_SOCKET else Kind.CONNECTION
        case Unresolved():
            return Kind.LOOP if fact.trouble is NameTrouble.LOOP else Kind.DNS
        case Unencrypted():
            return Kind.TLS
        case Unauthenticated():
            return Kind.LOGIN
        case Unsuitable():
            return _LACKING.get(fact.need, Kind.MESSAGE)
        case Unwritten():
            return _unwritten(fact)
        case Misbehaved():
            return Kind.OURSELVES
        case _:
            assert_never(fact)


_LACKING: Final = {Need.SIZE: Kind.TOO_LARGE, Need.REQUIRE_TLS: Kind.TLS}


def _unwritten(fact: Unwritten) -> Kind:
    if fact.permanent and fact.errno_name == "ENOENT":
        return Kind.NO_SUCH_USER
    if fact.errno_name == "EDQUOT":
        return Kind.FULL
    return kind_of_status(fact.status) if fact.status else Kind.OURSELVES if fact.errno_name else Kind.OTHER


def kind_of_reply(reply: Reply, phase: Phase, table: Iterable[Row] = TABLE) -> Kind:
    """What a server means by a refusal."""
    text = _words(reply)
    status, code = reply.status or "", reply.code
    for row in table:
        if (
            all(word in text for word in row.words)
            and (not row.status or status in row.status or status[2:] in row.status)
            and (not row.code or code in row.code)
            and (not row.at or phase in row.at)
        ):
            return row.kind
    return Kind.OTHER


def _words(reply: Reply) -> str:
    """What it says, without addresses: who is called `virus` has not sent one."""
    text = " ".join(reply.lines)[:_LOOKED_AT].lower()
    return " ".join(word for word in text.split() if "@" not in word)


def kind_of_status(status: str) -> Kind:
    """The same where there is nothing but a status."""
    rows = (row.kind for row in TABLE if {status, status[2:]} & row.status and not row.at)
    return next(rows, Kind.OTHER)
