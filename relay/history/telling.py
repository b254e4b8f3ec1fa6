"""
The life of a message, as a person would tell it: `relayctl trace`.

A sentence for each happening, and at the end one for each recipient that says what has become of it. What stands in
them comes from peers too, so nothing in them is a line end or moves a terminal's cursor.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from relay.history.keys import UNREADABLE
from relay.mail.explanation_text import text
from relay.mail.history import Accounts, Findings, Happening, Life

#: What an event says of its recipient's copy, until a later one says something else.
_OUTCOMES: Final = {
    "delivered": "was delivered",
    "relayed": "was relayed",
    "failed": "has failed",
    "discarded": "was thrown away",
    "held": "is held until the operator decides",
    "released": "is in the queue",
    "hastened": "is in the queue",
    "rerouted": "is in the queue",
    "deleted": "was deleted by the operator",
    "given_up": "was given up by the operator",
    "delayed": "is in the queue",
}
_ADDRESSES: Final = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^\s",@]+)@[^\s,]+').findall


def tell(life: Life, about: str = "") -> list[str]:
    """
    Lines: what it was, what happened when, and what has become of it. `about`: it is a notice of ours about the message
    with this id, which is how it began.
    """
    happenings = life.happenings
    lines = [f"{life.id}, a notice about {about}" if about else _heading(life)]
    before = (len(happenings) + 1) // 2 if life.left_out else -1
    for at, happening in enumerate(happenings):
        if at == before:
            lines.append(f"  ... {_count(life.left_out, 'more event')} ...")
        lines.append(f"  {stamp(happening.at)}  {sentence(happening)}")
    if life.id:
        lines += [f"  {line}" for line in endings(life)]
    return [_printable(line) for line in lines]


def tell_all(findings: Findings, asked: str) -> list[str]:
    """What a history has answered to `asked`: all lives, an empty line between them."""
    lines: list[str] = []
    about = {
        happening.text("notice"): life.id
        for life in findings.lives
        for happening in life.happenings
        if happening.what == "noticed"
    }
    for life in findings.lives:
        if lines:
            lines.append("")
        lines += tell(life, about.get(life.id, ""))
    if not findings.lives:
        lines.append(_nothing(f"Nothing is known of {asked}", findings))
    elif findings.more:
        lines += ["", "There is more, which is older."]
    if findings.dropped:
        lines += ["", f"{_count(findings.dropped, 'event')} could not be kept since the relay started."]
    return [_printable(line) for line in lines]


def tell_why(accounts: Accounts, asked: str) -> list[str]:
    """What a history has answered to "why": all accounts, an empty line between them."""
    lines: list[str] = []
    for account in accounts.accounts:
        if lines:
            lines += ["", ""]
        names = [account.id] if account.id else []
        names += [f"[ref {account.ref}]"] if account.ref else []
        explanation = account.explanation
        said = text(explanation) if explanation.reply else [explanation.because]
        lines += ["  ".join([stamp(account.at), *names]), *said]
    if not accounts.accounts:
        lines.append(_nothing(f"Nobody has decided anything about {asked}", accounts))
    elif accounts.more:
        lines += ["", "There is more, which is older."]
    if accounts.dropped:
        lines += ["", f"{_count(accounts.dropped, 'event')} could not be kept since the relay started."]
    return [_printable(line) for line in lines]


def _nothing(said: str, answer: Findings | Accounts) -> str:
    """Where nothing is found, and how far back that is true."""
    if answer.more:
        return f"{said} lately. So much has happened since that what is older was not looked for."
    since = "is empty" if answer.since is None else f"goes back to {stamp(answer.since)}"
    return f"{said}. The history {since}."


def sentence(happening: Happening) -> str:
    """What has happened, without when."""
    if happening.what == UNREADABLE:
        return "something happened that cannot be read: the history's file is damaged here"
    row = _SENTENCES.get(happening.what)
    if row is not None:
        return row(happening)
    said = " ".join(f"{name}={value}" for name, value in happening.fields.items())
    return f"{happening.what} {said}".rstrip()


def endings(life: Life) -> Iterator[str]:
    """What has become of each recipient, as far as is known."""
    last: dict[str, Happening] = {}
    known: set[str] = set()
    named: dict[str, str] = {}
    for happening in life.happenings:
        if happening.what == "accepted":
            named.update((address.casefold(), address) for address in _ADDRESSES(happening.text("to")))
        recipient = happening.text("recipient")
        if happening.what in _OUTCOMES and recipient:
            last[recipient] = happening
            known |= {recipient.casefold(), happening.text("original").casefold()}
    for recipient, happening in last.items():
        ending = f"{recipient} {_OUTCOMES[happening.what]}"
        again_in = happening.number("again_in")
        if happening.what == "delayed" and again_in is not None:
            ending += f": the next attempt was planned for {stamp(happening.at + again_in)}"
        yield f"{ending}."
    for folded, address in named.items():
        if folded not in known:
            yield f"{address} is in the queue: nothing has happened to it yet."


def stamp(when: float) -> str:
    """A moment, in UTC, as the mail log writes it but to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(when))


def span(seconds: float) -> str:
    """How long: `0.1 s`, `5 min`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 and seconds != int(seconds) else f"{seconds:.0f} s"
    minutes = int(seconds) // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def _heading(life: Life) -> str:
    first = life.happenings[0] if life.happenings else None
    if life.id:
        beginning = "" if first is None or first.what in ("accepted", "refused") else ", whose beginning is not known"
        return f"{life.id}{beginning}"
    return "refused before it was a message" if first is None or first.what == "refused" else first.what


# One sentence for each event of the mail log.


def _accepted(it: Happening) -> str:
    to, count = it.text("to"), it.number("recipients") or 0
    many = f" ({count:.0f} recipients)" if count > 1 else ""
    size = it.number("size")
    octets = "" if size is None else f", {size:.0f} octets"
    named = f". Message-ID: {it.text('message_id')}" if it.text("message_id") else ""
    return f"accepted from {_sender(it)} for {to or 'somebody'}{many}{octets}, {_client(it)}{named}"


def _refused(it: Happening) -> str:
    whom = " for ".join(part for part in (it.text("sender") and f"from {_sender(it)}", it.text("recipient")) if part)
    return f"refused{f' {whom}' if whom else ''} with {it.text('reply')!r}{_by_policy(it)}, {_client(it)}"


def _authenticated(it: Happening) -> str:
    return f"{it.text('user')} has proved who it is, {_client(it)}"


def _discarded(it: Happening) -> str:
    return f"{it.text('recipient')}: thrown away{_by_policy(it)}"


def _held(it: Happening) -> str:
    if it.text("operator"):
        return f"{_whose(it)}: held{_by_operator(it)}"
    return f"{it.text('recipient')}: kept until the operator decides{_by_policy(it)}"


def _released(it: Happening) -> str:
    return f"{_whose(it)}: released{_by_operator(it)}"


def _hastened(it: Happening) -> str:
    return f"{_whose(it)}: to be tried now{_by_operator(it)}"


def _rerouted(it: Happening) -> str:
    policy = it.text("policy")
    by = f" by policy {policy}, as it is now" if policy else _by_operator(it)
    return f"{_whose(it)}: sent another way, by {it.text('via') or 'this machine'}{by}"


def _deleted(it: Happening) -> str:
    return f"{_whose(it)}: deleted{_by_operator(it)}"


def _given_up(it: Happening) -> str:
    return f"{_whose(it)}: given up{_by_operator(it)}, so that the sender is told"


def _paused(it: Happening) -> str:
    return f"the destination {it.text('destination')} was paused{_by_operator(it)}"


def _resumed(it: Happening) -> str:
    return f"the destination {it.text('destination')} goes on{_by_operator(it)}"


def _suppressed(it: Happening) -> str:
    because = f": {it.text('because')}" if it.text("because") else ""
    return f"{it.text('recipient')} was put on the suppression list{_by_operator(it)}{because}"


def _unsuppressed(it: Happening) -> str:
    return f"{it.text('recipient')} was taken off the suppression list{_by_operator(it)}"


def _delivered(it: Happening) -> str:
    return f"{_whose(it)}: delivered to {it.text('by') or 'a mailbox here'}{_after(it)}"


def _relayed(it: Happening) -> str:
    said = f", which said {it.text('text')!r}" if it.text("text") else ""
    return f"{_whose(it)}: relayed to {it.text('by') or 'another server'}{said}{_after(it)}"


def _delayed(it: Happening) -> str:
    again_in = it.number("again_in")
    again = "" if again_in is None else f"; the next attempt in {span(again_in)}"
    return f"{_whose(it)}: not yet: {_trouble(it)}{_after(it)}{again}"


def _failed(it: Happening) -> str:
    return f"{_whose(it)}: failed for good: {_trouble(it)}{_after(it)}"


def _noticed(it: Happening) -> str:
    return f"the sender will be told: notice {it.text('notice')} to {it.text('recipient')} is in the queue"


def _unnoticed(it: Happening) -> str:
    of = f" of {it.text('recipient')}" if it.text("recipient") else ""
    return f"the sender will not be told{of}: {it.text('because')}"


def _notice_delayed(it: Happening) -> str:
    return f"the sender cannot be told now: {it.text('because')}"


def _claim_lost(it: Happening) -> str:
    outcome = it.text("outcome")
    ended = f" when our attempt ended ({outcome})" if outcome else ""
    return f"{_whose(it)}: somebody else had it in hand{ended}; it may arrive twice"


def _corrupt(it: Happening) -> str:
    return "it could not be read when the relay started, and was set aside"


def _dropped(it: Happening) -> str:
    return f"{it.text('lines')} events are missing here"


_SENTENCES: Final[Mapping[str, Callable[[Happening], str]]] = {
    "accepted": _accepted,
    "refused": _refused,
    "authenticated": _authenticated,
    "discarded": _discarded,
    "held": _held,
    "released": _released,
    "hastened": _hastened,
    "rerouted": _rerouted,
    "deleted": _deleted,
    "given_up": _given_up,
    "paused": _paused,
    "resumed": _resumed,
    "suppressed": _suppressed,
    "unsuppressed": _unsuppressed,
    "delivered": _delivered,
    "relayed": _relayed,
    "delayed": _delayed,
    "failed": _failed,
    "noticed": _noticed,
    "unnoticed": _unnoticed,
    "notice_delayed": _notice_delayed,
    "claim_lost": _claim_lost,
    "corrupt": _corrupt,
    "dropped": _dropped,
}


# What sentences are made of.


def _sender(it: Happening) -> str:
    sender = it.text("sender")
    return "the null reverse-path" if sender in ("", "<>") else sender


def _whose(it: Happening) -> str:
    original = it.text("original")
    return f"{it.text('recipient')} (for {original})" if original else it.text("recipient")


def _client(it: Happening) -> str:
    helo, address = it.text("helo"), it.text("client")
    who = f"{helo} [{address}]" if helo and address else helo or (f"[{address}]" if address else "a local program")
    at = f" at listener {it.text('listener')}" if it.text("listener") else ""
    user = f" as {it.text('user')}" if it.text("user") and it.what != "authenticated" else ""
    tls = f" in {it.text('tls')}" if it.text("tls") else ""
    return f"from {who}{at}{user}{tls}"


def _by_policy(it: Happening) -> str:
    policy, because = it.text("policy"), it.text("because")
    return (f" by policy '{policy}'" if policy else "") + (f" because {because}" if because else "")


def _by_operator(it: Happening) -> str:
    perhaps = ", perhaps: an error of the disk left it unknown" if it.text("perhaps") else ""
    who = f" ({it.text('operator')})" if it.text("operator") else ""
    return f" by the operator{who}{perhaps}"


def _trouble(it: Happening) -> str:
    status, because, peer = it.text("status"), it.text("because"), it.text("peer")
    what = f"{because} ({status})" if because and status else because or status or "no reason was noted"
    what += f", {it.text('note')}" if it.text("note") else ""
    if it.text("diagnostic"):
        return f"{what}: {peer or 'this relay'} said {it.text('diagnostic')!r}"
    return f"{what} at {peer}" if peer else what


def _after(it: Happening) -> str:
    attempts, age = it.number("attempts"), it.number("age")
    words = [] if attempts is None else [f"attempt {attempts:.0f}"]
    words += [] if age is None else [f"{span(age)} after it came"]
    twice = "; it may arrive twice" if it.text("perhaps_taken") else ""
    return (f" ({', '.join(words)})" if words else "") + twice


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _printable(line: str) -> str:
    return line if line.isprintable() else "".join(c if c.isprintable() else "?" for c in line)
