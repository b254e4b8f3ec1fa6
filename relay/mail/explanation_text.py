"""An explanation as people read it, in 80 columns: `relayctl explain` and `relayctl why`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from textwrap import wrap
from typing import Final

from relay.mail.explanation import Explanation, Mail, Step, Way

_wrap: Final = partial(wrap, break_on_hyphens=False)

_WIDTH: Final = 79
#: Where what a policy has said begins. Longer names have a line of their own.
_COLUMN: Final = 18
#: Where a result begins.
_RESULT: Final = 11
#: Conditions that nobody can answer in these phases.
_NOT_KNOWN_YET: Final = {"connection": ("sender", "recipient"), "sender": ("recipient",)}


def text(explanation: Explanation) -> list[str]:
    """
    Lines: what was asked about; phase by phase every policy in order; what the client hears, and where the copies go.

    What stands in them comes from peers too, so nothing in them is a line end or moves a terminal's cursor.
    """
    lines = [*_mail(explanation.mail), ""]
    phase, recipient = "", ""
    for step in explanation.steps:
        if (step.phase, step.recipient) != (phase, recipient):
            phase, recipient = step.phase, step.recipient
            lines.append(f"{phase} {recipient}".rstrip())
        lines += _step(step)
    if not explanation.steps:
        lines.append("no policy was asked")
    if explanation.left_out:
        lines.append(f"... and {explanation.left_out} more")
    lines += ["", *_result(explanation)]
    return [_printable(line) for line in lines]


def _mail(mail: Mail) -> Iterator[str]:
    to = ", ".join(mail.recipients)
    heading = f"{mail.sender} -> {to}" if mail.sender and to else mail.sender or to
    if heading:
        yield from _wrap(heading, _WIDTH, subsequent_indent="  ")
    words = [f"client {mail.client}" if mail.client else "a client at a Unix socket"]
    words += [f"helo {mail.helo}"] if mail.helo else []
    words += [f"user {mail.user}"] if mail.user else []
    words += [f"listener {mail.listener}"] if mail.listener else []
    words += [mail.tls] if mail.tls else []
    yield from _wrap(", ".join(words), _WIDTH, subsequent_indent="  ")


def _step(step: Step) -> Iterator[str]:
    if step.guard:
        known = step.guard not in _NOT_KNOWN_YET.get(step.phase, ())
        said = f"skipped: its condition '{step.guard}' {'does not hold' if known else 'is not known yet'}"
        took = ""
    else:
        said = f"it failed: {step.verdict}" if step.failed else step.verdict
        took = f"{step.milliseconds:.1f} ms"
    first = f"  {step.policy}"
    if len(first) >= _COLUMN:
        yield first
        first = ""
    said_lines = _wrap(said, _WIDTH - _COLUMN) or [""]
    line = f"{first:<{_COLUMN}}{said_lines[0]}"
    room = _WIDTH - len(line) - 1
    if took and len(said_lines) == 1 and len(took) <= room:
        line, took = f"{line} {took:>{room}}", ""
    yield line
    for more in said_lines[1:]:
        yield f"{'':{_COLUMN}}{more}"
    if step.because:
        yield from _indented(f"because {step.because}", _COLUMN)
    for where, what, found in step.looks:
        yield from _indented(f"{where} {what}: {found}", _COLUMN)
    if took:
        yield f"{took:>{_WIDTH}}"


def _result(explanation: Explanation) -> Iterator[str]:
    yield from _named("reply", explanation.reply)
    if not explanation.ways:  # each of them says it
        if explanation.policy:
            yield from _named("by", f"policy '{explanation.policy}'")
        if explanation.because:
            yield from _named("because", explanation.because)
    for way in explanation.ways:
        yield from _way(way)


def _way(way: Way) -> Iterator[str]:
    by = f", by policy '{way.policy}'" if way.policy else ""
    yield from _named("goes to", f"{way.to} for {way.recipient}{by}")
    if way.because:
        yield from _indented(f"because {way.because}", _RESULT)
    if way.tls:
        yield from _indented(_TLS.get(way.tls, f"TLS: {way.tls}"), _RESULT)
    for host in way.hosts:
        yield from _indented(host, _RESULT)
    if way.trouble:
        yield from _indented(f"cannot be tried now: {way.trouble}", _RESULT)


#: What a level asks for.
_TLS: Final = {
    "none": "TLS: none",
    "may": "TLS: may, where it is offered",
    "encrypt": "TLS: encrypt, or it is not sent",
    "verify": "TLS: verify, with a trusted certificate or it is not sent",
}


def _named(name: str, said: str) -> Iterator[str]:
    lines = _wrap(said, _WIDTH - _RESULT) or [""]
    yield f"{name:<{_RESULT}}{lines[0]}".rstrip()
    for line in lines[1:]:
        yield f"{'':{_RESULT}}{line}"


def _indented(said: str, column: int) -> Iterator[str]:
    for number, line in enumerate(_wrap(said, _WIDTH - column - 2)):
        yield f"{'':{column + 2 * bool(number)}}{line}"


def _printable(line: str) -> str:
    return line if line.isprintable() else "".join(c if c.isprintable() else "?" for c in line)
