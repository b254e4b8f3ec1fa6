"""What `relayctl new-policy` writes: a distribution with one policy, as a beginning."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Iterator, Mapping
from string import Template
from typing import Final

from attrs import frozen


@frozen
class Words:
    """What differs from phase to phase."""

    #: The interface, the type of its question, and of its answer.
    interface: str
    inquiry: str
    verdict: str
    method: str
    #: The one option: its name, its type, where that comes from, and what it is for.
    option: str
    kind: str
    kind_from: str
    description: str
    #: What the policy keeps of it, to ask it again and again.
    kept: str
    #: Whether this question is about one who is refused.
    condition: str
    #: What a verdict says of it to the operator, in an f-string, and what that is for who is refused.
    shown: str
    because: str
    #: Beyond the interface: what a content policy wants.
    wants: str
    #: An option that refuses somebody, and questions about who is refused, and who is not.
    example: str
    refused: str
    allowed: str
    #: What the tests import to ask.
    asks: str
    #: What a client of smtplib does to be refused, at last, with this code.
    steps: tuple[str, ...]
    code: int = 550
    #: Where the types of question and answer come from.
    types_from: str = "relay.mail.phases"


_COMPARED: Final = "# not by `==`: letter case means nothing"
_MEET: Final = ("client.connect(relay_server.host, relay_server.port)", "client.ehlo()")

PHASES: Final[Mapping[str, Words]] = {
    "connection": Words(
        interface="IConnectionPolicy",
        inquiry="ConnectionInquiry",
        verdict="ConnectionVerdict",
        method="connect",
        option="clients",
        kind="Network",
        kind_from="Network, Section",
        description="Networks whose clients are refused.",
        kept="options.clients",
        condition="client is not None and any(ip_address(client) in network for network in self._clients)",
        shown="{client} is in one of 'clients'",
        because="192.0.2.1 is in one of 'clients'",
        wants="",
        example='["192.0.2.0/24", "127.0.0.0/8"]',
        refused='connecting("192.0.2.1")',
        allowed='connecting("198.51.100.1")',
        asks="connecting",
        steps=("client.connect(relay_server.host, relay_server.port)",),
        code=554,
    ),
    "sender": Words(
        interface="ISenderPolicy",
        inquiry="SenderInquiry",
        verdict="SenderVerdict",
        method="sender",
        option="senders",
        kind="DomainOrAddress",
        kind_from="DomainOrAddress, Section",
        description="Who is refused: addresses, or domains.",
        kept=f"Mailboxes(options.senders)  {_COMPARED}",
        condition="sender in self._senders",
        shown="{sender or '<>'} is meant by 'senders'",
        because="Ann@sender.example is meant by 'senders'",
        wants="",
        example='["ann@sender.example"]',
        refused='sending("Ann@SENDER.example")',
        allowed='sending("bob@sender.example")',
        asks="sending",
        steps=(*_MEET, 'client.mail("ann@sender.example")'),
    ),
    "recipient": Words(
        interface="IRoutingPolicy",
        inquiry="Inquiry",
        verdict="RoutingVerdict",
        method="route",
        option="recipients",
        kind="DomainOrAddress",
        kind_from="DomainOrAddress, Section",
        description="Whose mail is refused.",
        kept=f"Mailboxes(options.recipients)  {_COMPARED}",
        condition="recipient in self._recipients",
        shown="{recipient} is meant by 'recipients'",
        because="Jon@example.org is meant by 'recipients'",
        wants="",
        example='["jon@example.org"]',
        refused='inquiry("Jon@EXAMPLE.org")',
        allowed='inquiry("ann@example.org")',
        asks="inquiry",
        steps=(*_MEET, 'client.mail("ann@sender.example")', 'client.rcpt("jon@example.org")'),
        types_from="relay.mail.routing",
    ),
    "content": Words(
        interface="IContentPolicy",
        inquiry="ContentInquiry",
        verdict="ContentVerdict",
        method="examine",
        option="words",
        kind="Word",
        kind_from="Section, Word",
        description="Mail with one of these in its subject is refused.",
        kept="tuple(word.casefold() for word in options.words)",
        condition="word is not None",
        shown="{word!r} of 'words' is in its subject",
        because="'lottery' of 'words' is in its subject",
        wants='\n    wants = "headers"',
        example='["lottery"]',
        refused='content(b"Subject: You have won the LOTTERY\\r\\n\\r\\nHi!\\r\\n")',
        allowed='content(b"Subject: hello\\r\\n\\r\\nHi!\\r\\n")',
        asks="content",
        steps=(
            *_MEET,
            'client.mail("ann@sender.example")',
            'client.rcpt("jon@example.org")',
            'client.data(b"Subject: You have won the lottery\\r\\n\\r\\nHi!\\r\\n")',
        ),
    ),
}

#: What a question is looked at for, before the condition.
_LOOKS: Final[Mapping[str, str]] = {
    "connection": "client = inquiry.client.address  # `None`: it came by a Unix socket",
    "sender": "sender = inquiry.reverse_path  # `None`: the null one, of a notice",
    "recipient": "recipient = inquiry.recipient",
    "content": """field = inquiry.fields.first("Subject")
        subject = field.text.casefold() if field else ""
        word = next((word for word in self._words if word in subject), None)""",
}

_SETUP = """\
[metadata]
name = relay-$name
version = 0.1.0
description = A policy for relay: $name
long_description = file: README.md
long_description_content_type = text/markdown

[options]
py_modules = $module
python_requires = >=3.11
install_requires =
    relay-mta

[options.extras_require]
test =
    relay-mta[testing]

[options.entry_points]
relay.policies =
    $name = $module:$policy
"""

_PYPROJECT = """\
[build-system]
requires = ["setuptools>=68"]
build-backend = "setuptools.build_meta"
"""

_MODULE = '''\
"""$summary"""

${ip_address}from pydantic import Field
from relay.config.fields import $kind_from
from relay.interfaces import $interface, World
$types
from zope.interface import implementer


class ${policy}Options(Section):
    """What `[[policy]] use = "$name"` may say."""

    # No `from __future__ import annotations` in this module: pydantic has to read these.
    $option: tuple[$kind, ...] = Field(min_length=1, description="$description")


@implementer($interface)
class $policy:
    """Refuses what the operator has named, and has no opinion on anything else."""

    Options = ${policy}Options$wants

    def __init__(self, options: ${policy}Options, world: World) -> None:
        # What is outside is asked of `world`: world.clock, world.resolver, world.store, world.http, world.table(...)
        self._$option = $kept

    def $method(self, inquiry: $inquiry) -> $verdict:
        $look
        if $condition:
            # The text is for the sender, `because` for the operator.
            return Reject(Reply.of(550, "5.7.1", "not wanted here"), because=f"$shown")
        return ABSTAIN
'''

_TESTS = '''\
import smtplib
from typing import Any, ClassVar

import pytest
from relay.mail.routing import ABSTAIN, Reject
from relay.testing.policy import PolicyContract$inquiry_too
${questions}from twisted.trial.unittest import SynchronousTestCase

from $module import $policy

CONFIGURED: dict[str, Any] = {"$option": $example}


class ${policy}Tests(PolicyContract, SynchronousTestCase):
    """Besides the tests here, those that `PolicyContract` brings: does it keep what every policy promises?"""

    policy = $policy
    options: ClassVar = CONFIGURED
    inquiries: ClassVar = ($refused,)

    def test_who_is_named_is_refused(self) -> None:
        verdict = self.put($refused)
        assert isinstance(verdict, Reject)
        self.assertEqual(str(verdict.reply), "550 5.7.1 not wanted here")
        self.assertEqual(verdict.because, "$because")

    def test_about_others_it_has_no_opinion(self) -> None:
        self.assertIs(self.put($allowed), ABSTAIN)


@pytest.mark.relay(policies=[{"use": $policy, **CONFIGURED}, {"use": "console"}])
def test_a_client_hears_it(relay_server: Any) -> None:
    with smtplib.SMTP(local_hostname="client.example", timeout=20) as client:
$steps
    assert relay_server.messages == []
'''

_README = """\
# relay-$name

A policy for relay, asked in the phase *$phase*: it refuses what its option `$option` names. That is only a beginning:
what it decides is in `$module.py`.

```toml
[[policy]]
use = "$name"
$option = $example
```

To work on it, in an environment that has relay:

    pip install -e '.[test]'
    python -m pytest

To use it, install it beside relay, and put the lines above into the configuration, over the policy that takes the mail:
the first that does not abstain decides.

    pip install .
    relayctl check relay.toml

* `$module.py`: the options and the policy.
* `test_$module.py`: its tests, those that every policy passes, and one with a client and a relay on a port.
* `setup.cfg`: the entry point in the group `relay.policies`, which gives the policy the name that `use` says.

Nothing here says yet under which licence others may use it. If they are to, put a file `LICENSE` beside this one and
name it in `setup.cfg` (`license = MIT`, for example). What was written here for you is yours: relay asks for nothing.
"""


#: Names that mean something else in these files, in one phase or another.
_TAKEN: Final = frozenset(
    re.findall(r"\b[A-Z]\w*", "\n".join([_MODULE, _TESTS, *(str(each) for each in PHASES.values())]))
) | frozenset(keyword.kwlist)


def policy_name(name: str) -> str:
    """The name of the class: `OfficeHours` for `office-hours`; `ReplyPolicy` for `reply`, since `Reply` is another."""
    camel = "".join(part.capitalize() for part in name.split("-"))
    return f"{camel}Policy" if camel in _TAKEN else camel


def _import(place: str, what: Iterable[str]) -> str:
    return f"from {place} import {', '.join(sorted(what, key=_in_order))}"


def _in_order(name: str) -> tuple[bool, str]:
    """Constants stand before classes."""
    return not name.isupper(), name


def _steps(words: Words) -> Iterator[str]:
    *before, last = words.steps
    for step in before:
        yield f"        {step}"
    yield f"        assert {last}[0] == {words.code}"


def files(name: str, phase: str) -> dict[str, str]:
    """The files of a distribution `relay-NAME`, by their names."""
    words = PHASES[phase]
    module = f"relay_{name.replace('-', '_')}"
    imported = {"relay.mail.reply": {"Reply"}, "relay.mail.routing": {"ABSTAIN", "Reject"}}
    imported.setdefault(words.types_from, set()).update((words.inquiry, words.verdict))
    if words.kind == "DomainOrAddress":
        imported["relay.policy.names"] = {"Mailboxes"}
    asked_of_policy = phase == "recipient"
    given = {
        "name": name,
        "phase": phase,
        "module": module,
        "policy": policy_name(name),
        "summary": f"A policy for relay that is asked in the phase *{phase}*.",
        "ip_address": "from ipaddress import ip_address\n\n" if phase == "connection" else "",
        "kind_from": words.kind_from,
        "interface": words.interface,
        "types": "\n".join(_import(place, what) for place, what in sorted(imported.items())),
        "option": words.option,
        "kind": words.kind,
        "description": words.description,
        "wants": words.wants,
        "kept": words.kept,
        "method": words.method,
        "inquiry": words.inquiry,
        "verdict": words.verdict,
        "look": _LOOKS[phase],
        "condition": words.condition,
        "shown": words.shown,
        "because": words.because,
        "example": words.example,
        "refused": words.refused,
        "allowed": words.allowed,
        "inquiry_too": ", inquiry" if asked_of_policy else "",
        "questions": "" if asked_of_policy else f"from relay.testing.questions import {words.asks}\n",
        "steps": "\n".join(_steps(words)),
    }
    texts = {
        "setup.cfg": _SETUP,
        "pyproject.toml": _PYPROJECT,
        f"{module}.py": _MODULE,
        f"test_{module}.py": _TESTS,
        "README.md": _README,
    }
    return {file: Template(text).substitute(given) for file, text in texts.items()}
