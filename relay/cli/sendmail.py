"""
`relay-sendmail`: what programs call as /usr/sbin/sendmail.

It keeps nothing: the exit status is 0 when the relay has said 250, and 75 when it could not be asked. `--help` imports
next to nothing, and sending a message nothing of Twisted.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO, Final

from relay.cli.sendmail_options import HELP, Mode, Options, UsageError, options

if TYPE_CHECKING:
    from relay.cli.letter import Author
    from relay.cli.submission import Place
    from relay.mail.address import Address
    from relay.mail.dsn import Return, Wishes
    from relay.mail.outcome import Broke, Fact
    from relay.mail.reply import Reply

_PROGRAM: Final = "relay-sendmail"

#: What a permanent refusal is to whoever has called us: by the first words of its status (RFC 3463) that are here.
_STATUSES: Final = (
    ("5.1.2", os.EX_NOHOST),
    ("5.1.7", os.EX_NOPERM),
    ("5.1.8", os.EX_NOPERM),
    ("5.1", os.EX_NOUSER),
    ("5.2.1", os.EX_NOUSER),
    ("5.6", os.EX_DATAERR),
    ("5.3.4", os.EX_DATAERR),
    ("5.7", os.EX_NOPERM),
)


class Complaint(Exception):
    """The message cannot be sent. What to say, and the exit status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


def main() -> None:
    """The command."""
    # Whoever has closed them does not want to hear anything.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  # to the end of the process
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Do as these arguments say; the exit status."""
    try:
        return _run(options(arguments))
    except UsageError as problem:
        return _complain(f"{problem} (see {_PROGRAM} --help)", os.EX_USAGE)
    except Complaint as problem:
        return _complain(str(problem), problem.status)
    except BrokenPipeError:
        return os.EX_IOERR
    except KeyboardInterrupt:
        return os.EX_TEMPFAIL


def _run(said: Options) -> int:
    match said.mode:
        case Mode.HELP:
            sys.stdout.write(HELP)
        case Mode.VERSION:
            from relay import __version__

            sys.stdout.write(f"{_PROGRAM} {__version__}\n")
        case Mode.NOTHING:
            pass
        case Mode.QUEUE:
            from relay.cli.mailq import show

            return show(said.config, None, as_json=False)
        case Mode.SMTP:
            return _speak(said)
        case Mode.VERIFY:
            return _verify(said)
        case Mode.SEND:
            return _send(said)
    return os.EX_OK


# Sending.


def _send(said: Options) -> int:
    place = _place(said)
    from relay.cli.letter import Letter
    from relay.cli.submission import submit
    from relay.smtp.transaction import Transaction

    # What is wrong with the arguments is said before anybody has typed a message.
    sender = _sender(said, place)
    wishes, returns = _wishes(said), _returns(said)
    _check_full_name(said)
    recipients = [_address(text, place, "recipient") for text in said.recipients]
    if not recipients and not said.from_header:
        raise Complaint("there are no recipients: name some, or say -t", os.EX_USAGE)
    letter = Letter.of(_typed(said))
    if said.from_header:
        recipients += [_address(text, place, "recipient") for text in letter.addressees()]
    recipients = list(dict.fromkeys(recipients))
    if not recipients:
        raise Complaint("there are no recipients: To, Cc and Bcc have none", os.EX_USAGE)
    content = letter.sendable(_author(said, sender, place))
    transaction = Transaction(
        sender,
        tuple(recipients),
        size=len(content),
        eight_bit=not content.isascii(),
        wishes=(wishes,) * len(recipients),
        returns=returns,
        envid=_envid(said),
    )
    return _report(said, place, recipients, submit(place, transaction, content))


def _typed(said: Options) -> bytes:
    from relay.cli.letter import read

    try:
        return read(_input(), dots=said.dots)
    except OSError as problem:
        raise Complaint(f"the message cannot be read: {problem.strerror or problem}", os.EX_NOINPUT) from None


def _input() -> BinaryIO:
    """Standard input, which whoever has called us may have closed."""
    if sys.stdin is None:
        raise Complaint("there is no standard input, which should have the message", os.EX_NOINPUT)
    return sys.stdin.buffer


def _report(said: Options, place: Place, recipients: Sequence[Address], facts: Sequence[Fact]) -> int:
    """Say what has gone wrong, and with -v also what has not; the exit status is that of the worst of it."""
    from relay.mail.outcome import Carried

    status = os.EX_OK
    refusals: dict[str, list[str]] = {}
    for recipient, fact in zip(recipients, facts, strict=True):
        if isinstance(fact, Carried):
            if said.verbose:
                sys.stdout.write(f"{recipient}: {fact.text}\n")
            continue
        each, text = _trouble(fact, place)
        refusals.setdefault(text, []).append(str(recipient))
        status = _worse(status, each)
    for text, whom in refusals.items():
        _say(text if len(whom) == len(facts) > 1 else f"{', '.join(whom)}: {text}")
    return status


def _trouble(fact: Fact | Reply | Broke, place: Place) -> tuple[int, str]:
    """What a fact is to whoever has called us."""
    from relay.mail.outcome import Answered, Broke, Need, Unsuitable
    from relay.mail.reply import Reply

    reply = fact.reply if isinstance(fact, Answered) else fact
    if isinstance(reply, Reply):
        return _status(reply), f"the relay has refused it: {reply}"
    if isinstance(fact, Broke):
        why = f"{fact.breakage.value}: {fact.text}" if fact.text else fact.breakage.value
        return os.EX_TEMPFAIL, f"the relay does not take it now ({place.path}: {why}); try again later"
    if isinstance(fact, Unsuitable):
        if fact.need is Need.SIZE:
            return os.EX_DATAERR, "the message is larger than the relay takes"
        return os.EX_DATAERR, f"the relay does not offer what the message needs: {fact.need.value}"
    return os.EX_TEMPFAIL, f"the relay does not take it now ({place.path})"


def _status(reply: Reply) -> int:
    if reply.temporary:
        return os.EX_TEMPFAIL
    found = reply.status or ""
    return next((status for words, status in _STATUSES if f"{found}.".startswith(f"{words}.")), os.EX_UNAVAILABLE)


def _worse(one: int, other: int) -> int:
    """Of two statuses the one that counts: never "again later" where that could not help everybody."""
    if os.EX_OK in (one, other):
        return one or other
    return other if one == os.EX_TEMPFAIL else one


# Asking.


def _verify(said: Options) -> int:
    from relay.cli.submission import verify
    from relay.mail.reply import Reply

    place = _place(said)
    if not said.recipients:
        raise Complaint("there are no recipients", os.EX_USAGE)
    recipients = [str(_address(text, place, "recipient")) for text in said.recipients]
    status = os.EX_OK
    for recipient, answer in zip(recipients, verify(place, str(_sender(said, place) or ""), recipients), strict=True):
        if isinstance(answer, Reply) and answer.positive:
            sys.stdout.write(f"{recipient}: {answer}\n")
        else:
            each, text = _trouble(answer, place)
            sys.stdout.write(f"{recipient}: {text}\n")
            status = _worse(status, each)
    return status


def _speak(said: Options) -> int:
    from relay.cli.submission import pass_through

    place, said_by_it = _place(said), _input()
    try:
        pass_through(place, said_by_it, sys.stdout.buffer)
    except OSError as problem:
        # RFC 5321 section 3.8: what a client expects of a host that cannot serve it now.
        sys.stdout.write(f"421 4.3.2 {place.hostname} no service now\r\n")
        raise Complaint(f"{place.path}: {problem.strerror or problem}", os.EX_TEMPFAIL) from None
    return os.EX_OK


# What the arguments mean.


def _place(said: Options) -> Place:
    from relay.cli.submission import NoSuchPlace, find

    try:
        return find(said.config, said.socket)
    except NoSuchPlace as problem:
        raise Complaint(str(problem), os.EX_CONFIG) from None


def _sender(said: Options, place: Place) -> Address | None:
    if said.sender is not None:
        return None if said.sender in ("", "<>") else _address(said.sender, place, "sender")
    return _address(_login(), place, "sender")


def _address(text: str, place: Place, role: str) -> Address:
    """A mailbox; a name alone is one on this host. Brackets may stand around it."""
    from relay.mail.address import AddressError, parse_address

    bare = text.strip()
    if bare.startswith("<") and bare.endswith(">"):
        bare = bare[1:-1]
    try:
        return parse_address(bare if "@" in bare else f"{bare}@{place.hostname}")
    except (AddressError, UnicodeEncodeError) as problem:
        raise Complaint(f"'{_shown(text)}' is no {role}: {problem}", os.EX_DATAERR) from None


def _wishes(said: Options) -> Wishes:
    from relay.mail.dsn import NO_WISHES, Notify, Wishes

    if said.notify is None:
        return NO_WISHES
    words = {word.strip().upper() for word in said.notify.split(",")}
    known = {notify.value for notify in Notify}
    if not words <= known or ("NEVER" in words and len(words) > 1):
        raise UsageError("-N is 'never', or a list of 'success', 'failure' and 'delay'")
    return Wishes(frozenset(Notify(word) for word in words))


def _returns(said: Options) -> Return | None:
    from relay.mail.dsn import Return

    if said.returns is None:
        return None
    try:
        return Return(said.returns.upper())
    except ValueError:
        raise UsageError("-R is 'full' or 'hdrs'") from None


def _envid(said: Options) -> str:
    from relay.smtp.parameters import xtext

    # RFC 3461 section 4.4.
    if len(said.envid) > 100 or not (said.envid.isascii() and said.envid.isprintable()):
        raise UsageError("-V is up to 100 characters of printable ASCII")
    return xtext(said.envid) if said.envid else ""


def _check_full_name(said: Options) -> None:
    try:
        (said.full_name or "").encode()
    except UnicodeEncodeError:
        raise UsageError("-F is a name in UTF-8") from None


def _author(said: Options, sender: Address | None, place: Place) -> Author:
    import secrets
    import time

    from relay.cli.letter import Author, phrase
    from relay.mail.trace import date

    now = time.time()
    mailbox = str(sender or _address(_login(), place, "sender"))
    name = phrase(_full_name() if said.full_name is None else said.full_name)
    return Author(
        mailbox=f"{name} <{mailbox}>" if name else mailbox,
        date=date(now),
        message_id=f"<{int(now):x}.{secrets.token_hex(8)}@{place.hostname}>",
    )


def _login() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise Complaint("nobody knows your user id: say who you are by -f", os.EX_NOUSER) from None


def _full_name() -> str:
    """By GECOS: up to the first comma, where an ampersand stands for the login."""
    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:
        return ""
    return entry.pw_gecos.partition(",")[0].replace("&", entry.pw_name.capitalize())


# Saying.


def _complain(text: str, status: int) -> int:
    _say(text)
    return status


def _say(text: str) -> None:
    sys.stderr.write(f"{_PROGRAM}: {_shown(text)}\n")


def _shown(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


if __name__ == "__main__":
    main()
