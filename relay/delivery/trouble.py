"""
What a fact means: the one table of troubles.

An agent reports what it met (`relay.mail.outcome`); here it is decided what that means for the copy: done, later or
never; whether another host of the same destination may be asked in the same attempt; and whom it speaks of,
the recipient, the message, the host, the destination or ourselves. The first line that fits decides.
`docs/delivery.md` gives the reasons at length; the comments here name the sources.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final, assert_never

from attrs import field, frozen

from relay.delivery.classes import Kind, kind_of
from relay.mail import selection
from relay.mail.outcome import (
    Answered,
    Breakage,
    Broke,
    Carried,
    Delayed,
    Delivered,
    Fact,
    Failed,
    Misbehaved,
    NameTrouble,
    Need,
    Outcome,
    Peer,
    Phase,
    RefusedByPolicy,
    Relayed,
    TlsTrouble,
    Unauthenticated,
    Unencrypted,
    Unresolved,
    Unsuitable,
    Unwritten,
)
from relay.mail.reply import Reply, printable

#: What is kept of a peer's words in an outcome: the spool keeps it for as long as the copy waits.
_DIAGNOSTIC = 500


class About(Enum):
    """Of whom a trouble speaks, so that those who schedule know what to spare."""

    RECIPIENT = "recipient"
    MESSAGE = "message"
    HOST = "host"
    DESTINATION = "destination"
    OURSELVES = "ourselves"


class Fate(Enum):
    """What becomes of a copy that was not carried."""

    LATER = "4"
    NEVER = "5"


@frozen
class Judgement:
    """What a fact means."""

    outcome: Outcome
    about: About
    #: Another host, or the next hop after it, may be asked in this attempt. If none is left, `outcome` holds.
    next_host: bool = False
    #: The peer may have taken the copy although we never heard so: trying again may duplicate it (RFC 1047).
    perhaps_taken: bool = False
    #: For our own log only: it may say how we are built.
    note: str = ""
    #: A word for those who count troubles.
    kind: Kind | None = None


def _words(words: Iterable[object]) -> frozenset[object]:
    return frozenset(words)


def _phases(phases: Iterable[Phase]) -> frozenset[Phase]:
    return frozenset(phases)


@frozen
class Line:
    """
    A line of the table: it fits a fact of this type of which all of `what` is true, at one of the phases `at`.

    An empty `what` or `at` fits always. The words of `what` are those that `_features` finds in a fact.
    """

    fact: type
    what: frozenset[object] = field(converter=_words)
    at: frozenset[Phase] = field(converter=_phases)
    fate: Fate
    #: Used unless the peer or the agent gave a status of the same class (RFC 3463).
    status: str
    about: About
    next_host: bool
    perhaps_taken: bool = False
    #: Why, in words for the sender, where the fact's own words would not do.
    because: str = ""


LATER, NEVER = Fate
RECIPIENT, MESSAGE, HOST, DESTINATION, OURSELVES = About
NEXT, STAY = True, False
TAKEN = True
ANYWHERE: Final[tuple[Phase, ...]] = ()
ANY: Final[tuple[object, ...]] = ()
#: The next hop was named by the operator's configuration and is not simply the recipient's domain.
APPOINTED: Final = "appointed"

_WELCOME = (Phase.GREETING, Phase.HELLO, Phase.STARTTLS)
_LOGIN = (Phase.AUTH,)
_COMMANDS = (Phase.MAIL, Phase.RCPT, Phase.DATA)
_OF_THE_MESSAGE = (Phase.MAIL, Phase.DATA, Phase.CONTENT, Phase.END)
_RCPT = (Phase.RCPT,)
_OF_A_RECIPIENT = (Phase.RCPT, Phase.COPY)

TABLE: Final[tuple[Line, ...]] = (
    # -- Where to --
    #
    # No answer is not "no": SERVFAIL, a timeout or a truncated answer is temporary.
    Line(Unresolved, {NameTrouble.UNANSWERED}, ANYWHERE, LATER, "4.4.3", DESTINATION, NEXT),
    # A smarthost that cannot be found is no fault of the recipient: the operator has time to mend the configuration.
    Line(Unresolved, {APPOINTED}, ANYWHERE, LATER, "4.3.5", OURSELVES, NEXT, because="the next hop cannot be found"),
    Line(Unresolved, {NameTrouble.NO_SUCH_DOMAIN}, ANYWHERE, NEVER, "5.1.2", DESTINATION, NEXT),
    Line(Unresolved, {NameTrouble.NO_ADDRESS}, ANYWHERE, NEVER, "5.4.4", DESTINATION, NEXT),
    # RFC 7505 section 3.
    Line(Unresolved, {NameTrouble.NULL_MX}, ANYWHERE, NEVER, "5.1.10", DESTINATION, NEXT),
    # RFC 5321 section 5.1: "best MX host is us" is a configuration fault of somebody, not a queue.
    Line(Unresolved, {NameTrouble.LOOP}, ANYWHERE, NEVER, "5.4.6", DESTINATION, NEXT),
    Line(Unresolved, {NameTrouble.FORBIDDEN}, ANYWHERE, NEVER, "5.4.4", DESTINATION, NEXT),
    # -- A conversation that ended without an answer --
    #
    # The host was never asked. Another one may have an address of the other family, which has another `source`.
    Line(Broke, {Breakage.NO_SOCKET}, [Phase.CONNECT], LATER, "4.3.5", OURSELVES, NEXT),
    Line(Broke, ANY, [Phase.CONNECT], LATER, "4.4.1", HOST, NEXT),
    # The content is with them and their answer is not with us: it may have been a 250. Another host would be sure
    # to make a duplicate of it now; later, this host may tell it from its own (RFC 1047).
    Line(Broke, {Breakage.NONSENSE}, [Phase.END], LATER, "4.5.0", HOST, STAY, TAKEN),
    Line(Broke, ANY, [Phase.END], LATER, "4.4.2", HOST, STAY, TAKEN),
    Line(Broke, {Breakage.NONSENSE}, ANYWHERE, LATER, "4.5.0", HOST, NEXT),
    Line(Broke, ANY, ANYWHERE, LATER, "4.4.2", HOST, NEXT),
    # -- The peer said no --
    #
    # RFC 5321 section 3.8: 421 is said by a host that is about to close, in answer to whatever.
    Line(Answered, {"421"}, ANYWHERE, LATER, "4.3.2", HOST, NEXT),
    # No service here, or none for us (RFC 5321 section 3.1, RFC 7504). Even a 5yz says nothing of the
    # recipient, and mostly means that somebody has something to mend: another host, then later.
    Line(Answered, ANY, _WELCOME, LATER, "4.3.2", HOST, NEXT),
    # Behind AUTH every refusal is one of us. A server that cannot look us up now (454), or is broken, is that host's
    # trouble; a password that it does not take is for the operator to mend, and no other host is offered it at once:
    # tries that fail are counted (RFC 4954 section 4, RFC 5321 section 4.2.1).
    Line(Answered, {"4yz"}, _LOGIN, LATER, "4.7.0", HOST, NEXT),
    Line(Answered, {"5yz"}, _LOGIN, LATER, "4.7.8", OURSELVES, STAY, because="the next hop does not let us in"),
    # It wants STARTTLS or AUTH first (RFC 3207 section 4, RFC 4954 section 6): that is for the operator to configure.
    Line(Answered, {"530"}, _COMMANDS, LATER, "4.7.0", OURSELVES, NEXT),
    # "Bad sequence of commands" after a sequence that was not: the two of us misunderstand each other.
    Line(Answered, {"503"}, _COMMANDS, LATER, "4.5.1", HOST, NEXT),
    # "Parameters not recognized" after parameters that were offered: likewise. The operator can do `without` them.
    Line(Answered, {"555"}, _COMMANDS, LATER, "4.5.4", HOST, NEXT),
    # RFC 5321 section 4.5.3.1.10: 552 was once the code for too many recipients, and is to be taken for 452.
    # Where its status says that a mailbox is full, it means what it says.
    Line(Answered, {"552", "no status"}, _RCPT, LATER, "4.5.3", RECIPIENT, STAY),
    Line(Answered, {"552", "5.5.3"}, _RCPT, LATER, "4.5.3", RECIPIENT, STAY),
    # RFC 3463 section 3.4, X.3.z: the mail system itself is full, down or wrong. It is that host's.
    Line(Answered, {"452", "no status"}, _OF_THE_MESSAGE, LATER, "4.3.1", HOST, NEXT),
    Line(Answered, {"4yz", "4.3.z"}, _OF_THE_MESSAGE, LATER, "4.3.0", HOST, NEXT),
    # Greylisting, full mailboxes, too many recipients: the other hosts would say the same.
    Line(Answered, {"4yz"}, _OF_A_RECIPIENT, LATER, "4.0.0", RECIPIENT, STAY),
    Line(Answered, {"4yz"}, ANYWHERE, LATER, "4.0.0", MESSAGE, STAY),
    Line(Answered, {"5yz"}, _OF_A_RECIPIENT, NEVER, "5.0.0", RECIPIENT, STAY),
    Line(Answered, {"5yz"}, ANYWHERE, NEVER, "5.0.0", MESSAGE, STAY),
    # A yes where only a no can be reported.
    Line(Answered, ANY, ANYWHERE, LATER, "4.5.0", HOST, NEXT),
    # -- The peer cannot be told who we are, or is not who it should be --
    #
    # What the configuration wants to be encrypted is never sent in clear. Somebody has something to mend, be it only a
    # certificate, or somebody is listening on the way: another host, then later (RFC 3207 section 6).
    Line(Unencrypted, {TlsTrouble.NOT_OFFERED}, ANYWHERE, LATER, "4.7.4", HOST, NEXT),
    Line(Unencrypted, ANY, ANYWHERE, LATER, "4.7.5", HOST, NEXT),
    # No password was said to it.
    Line(Unauthenticated, ANY, ANYWHERE, LATER, "4.7.8", OURSELVES, NEXT, because="the next hop does not let us in"),
    # -- The peer cannot be given this message --
    #
    # RFC 6531 section 3.2, RFC 6152 section 3: not to be sent, not to be converted. One host may offer what
    # another does not; it fails when none does.
    Line(Unsuitable, {Need.SMTPUTF8}, ANYWHERE, NEVER, "5.6.7", HOST, NEXT),
    Line(Unsuitable, {Need.EIGHT_BIT}, ANYWHERE, NEVER, "5.6.3", HOST, NEXT),
    # RFC 3030 section 3: the same of BINARYMIME.
    Line(Unsuitable, {Need.BINARY}, ANYWHERE, NEVER, "5.6.3", HOST, NEXT),
    # RFC 8689 section 4.2.1.
    Line(Unsuitable, {Need.REQUIRE_TLS}, ANYWHERE, NEVER, "5.7.30", HOST, NEXT),
    # RFC 2852 section 4.1.4: "return" is no promise of a server that has not made it.
    Line(Unsuitable, {Need.DELIVER_BY}, ANYWHERE, NEVER, "5.3.3", HOST, NEXT),
    # RFC 1870 section 6.1.
    Line(Unsuitable, {Need.SIZE}, ANYWHERE, NEVER, "5.3.4", MESSAGE, STAY),
    # -- Mailboxes of ours --
    #
    Line(Unwritten, {"permanent", "ENOENT"}, ANYWHERE, NEVER, "5.1.1", RECIPIENT, STAY, because="no such mailbox here"),
    Line(Unwritten, {"permanent"}, ANYWHERE, NEVER, "5.2.0", RECIPIENT, STAY, because="the mailbox takes no mail"),
    Line(Unwritten, {"EDQUOT"}, ANYWHERE, LATER, "4.2.2", RECIPIENT, STAY, because="the mailbox is full"),
    Line(Unwritten, {"ENOSPC"}, ANYWHERE, LATER, "4.3.1", OURSELVES, STAY, because="the mail system is full"),
    Line(Unwritten, ANY, ANYWHERE, LATER, "4.2.0", RECIPIENT, STAY, because="the mailbox cannot be written now"),
    # -- Ourselves --
    #
    Line(RefusedByPolicy, {"4yz"}, ANYWHERE, LATER, "4.7.1", RECIPIENT, STAY),
    Line(RefusedByPolicy, ANY, ANYWHERE, NEVER, "5.7.1", RECIPIENT, STAY),
    Line(Misbehaved, ANY, ANYWHERE, LATER, "4.3.0", OURSELVES, STAY, because="an internal error"),
)


def judge(fact: Fact, *, appointed: bool = False, table: Iterable[Line] = TABLE) -> Judgement:
    """
    What this fact means for the copy it was reported of.

    `appointed`: the next hop was named by the configuration, and is not simply the recipient's domain.
    """
    if isinstance(fact, Carried):
        return Judgement(carried(fact), RECIPIENT)
    features = _features(fact)
    if appointed:
        features.add(APPOINTED)
    phase = getattr(fact, "phase", None)
    for line in table:
        if isinstance(fact, line.fact) and line.what <= features and (not line.at or phase in line.at):
            outcome, note = _outcome(fact, line), _note(fact)
            return Judgement(outcome, line.about, line.next_host, line.perhaps_taken, note, kind_of(fact))
    raise LookupError(f"no line of the table of troubles fits {fact}")


def carried(fact: Carried) -> Delivered | Relayed:
    """The outcome of a copy that is out of our hands."""
    if fact.onward:
        return Relayed(fact.by, fact.text, fact.told, fact.tls, fact.timed)
    return Delivered(fact.by, fact.text, fact.tls)


def after_another_host(before: Judgement | None, now: Judgement) -> Judgement:
    """
    What to say of a copy that has now met `now`, after `before` at another host.

    A copy fails for what hosts lack or for a name that is wrong only if every one that was asked says so: one that
    may yet take it is a reason to wait.
    """
    if before is not None and isinstance(now.outcome, Failed) and now.next_host:
        return before if isinstance(before.outcome, Delayed) else now
    return now


def _features(fact: Fact) -> set[object]:
    """The words for what is true of a fact, for `Line.what`."""
    match fact:
        case Broke():
            return {fact.breakage}
        case Unresolved() | Unencrypted():
            return {fact.trouble}
        case Unsuitable():
            return {fact.need}
        case Unwritten():
            return {fact.errno_name, *(("permanent",) if fact.permanent else ())}
        case Answered() | RefusedByPolicy():
            return _features_of(fact.reply)
        case Misbehaved() | Carried() | Unauthenticated():
            return set()
        case _:
            assert_never(fact)


def _features_of(reply: Reply) -> set[object]:
    """`451 4.3.0`: `451`, `4yz`, `4.3.0`, `4.3.z`."""
    features: set[object] = {str(reply.code), f"{reply.code // 100}yz"}
    if reply.status is None:
        features.add("no status")
    else:
        features |= {reply.status, f"{reply.status.rpartition('.')[0]}.z"}
    return features


def _outcome(fact: Fact, line: Line) -> Delayed | Failed:
    reply = fact.reply if isinstance(fact, Answered | RefusedByPolicy) else None
    status, because = line.status, line.because or _because(fact)
    said = reply.status if reply is not None else None
    if isinstance(fact, Unwritten):
        said, because = fact.status, printable(fact.because)[:_DIAGNOSTIC] or because
    if said and said.startswith(line.fate.value):
        status = said
    # What a smarthost thinks of our login is nobody's business but the operator's.
    told = reply is not None and getattr(fact, "phase", None) is not Phase.AUTH
    diagnostic = str(reply)[:_DIAGNOSTIC] if told else ""
    peer = _peer(fact)
    if line.fate is NEVER:
        return Failed(status, because, diagnostic, peer)
    return Delayed(status, because, diagnostic, peer)


def _because(fact: Fact) -> str:
    """What happened, in words for the sender."""
    match fact:
        case Broke(breakage=Breakage.REFUSED | Breakage.UNREACHABLE | Breakage.NO_SOCKET):
            return fact.breakage.value
        case Broke():
            doing = "while" if fact.phase in (Phase.CONNECT, Phase.CONTENT, Phase.RESOLVE) else "at"
            return f"{fact.breakage.value} {doing} {fact.phase.value}"
        case Answered():
            return f"refused at {fact.phase.value}"
        case Unresolved():
            return f"{fact.trouble.value}: {printable(fact.domain)}"
        case Unencrypted():
            return fact.trouble.value
        case Unsuitable(need=Need.SIZE):
            return "the message is larger than the server takes"
        case Unsuitable(need=Need.REQUIRE_TLS):
            return "the message requires TLS (REQUIRETLS) with a host that is known for certain and promises the same"
        case Unsuitable():
            return f"the server does not offer {fact.need.value}, which the message needs"
        case RefusedByPolicy(because=selection.BY_OPERATOR):
            return "given up by the operator of this relay"
        case RefusedByPolicy():
            return "refused by policy" if fact.reply.permanent else "put off by policy"
        case _:
            return "not carried"


def _peer(fact: Fact) -> str:
    peer: Peer | None = getattr(fact, "peer", None)
    return "" if peer is None else str(peer)


def _note(fact: Fact) -> str:
    match fact:
        case Unwritten():
            return printable(f"{fact.what}: {fact.text}")[:_DIAGNOSTIC]
        case Broke() | Unresolved() | Unencrypted() | Unauthenticated():
            return printable(fact.text)[:_DIAGNOSTIC]
        case Answered(phase=Phase.AUTH):
            return str(fact.reply)[:_DIAGNOSTIC]
        case RefusedByPolicy():
            return printable(fact.because)[:_DIAGNOSTIC]
        case Misbehaved():
            return printable(fact.agent)
        case _:
            return ""
