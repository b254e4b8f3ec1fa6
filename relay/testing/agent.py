"""
For those who write agents: the contract of `IAgent` as a test case.

    class JsonLinesTests(AgentContract, SynchronousTestCase):
        agent = JsonLines
        writes_files = True

        def setUp(self) -> None:
            self.file = Path(self.mktemp())
            self.parameters = {"file": str(self.file)}

        def kept(self) -> list[bytes]:
            return [json.loads(line)["message"].encode() for line in self.file.open()]

Those are tests that pytest and trial find, beside your own. `check_agent` is the same as a function. `consignment`
makes something to carry.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, get_args
from unittest import mock

from attrs import define, field, frozen
from pydantic import BaseModel, ValidationError
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from relay.config.parameters import as_text, from_text, text_of
from relay.interfaces import Consignment, IAgent, IAgentMaker, IContent, Report, World
from relay.mail.address import parse_address
from relay.mail.envelope import Client, Envelope, Form
from relay.mail.outcome import Carried, Fact
from relay.mail.queue import Entry, Recipient
from relay.mail.routing import Deliver
from relay.net.waiting import start
from relay.registry import AGENTS, parameters_model
from relay.smtp.octets import wire
from relay.testing.policy import NOON, FakeWorld

#: Turns that an agent gets for one consignment. A turn is a tenth of a second of `world.clock`, unless the test has
#: another idea of it.
_TURNS: Final = 5000
_MANY: Final = 100

_HEAD: Final = b"Received: from client.example by mx.example.org; Mon, 23 Nov 2026 12:00:00 +0000\r\n"
_FACTS: Final = get_args(Fact)
_ids: Final = itertools.count(1)


@implementer(IContent)
@define
class FakeContent:
    """Content that is in memory, in blocks of a few octets, so that everything is cut somewhere."""

    plain: bytes
    form: Form = Form.PLAIN
    block: int = 1000
    #: Raised behind the last block, as a disk would that fails.
    error: OSError | None = None
    #: Reports have been made: nobody may read any more.
    closed: bool = field(default=False, init=False)

    @property
    def size(self) -> int:
        return len(self.plain)

    def blocks(self) -> Iterator[bytes]:
        octets = b"".join(wire([self.plain])) if self.form is Form.WIRE else self.plain
        for at in range(0, len(octets), self.block):
            assert not self.closed, "the content is read after the reports were made"
            yield octets[at : at + self.block]
        if self.error is not None:
            raise self.error


def consignment(
    *recipients: str,
    agent: str = "under-test",
    parameters: Mapping[str, str] | None = None,
    content: bytes | FakeContent = b"Subject: hello\r\n\r\nHi!\r\n",
    sender: str | None = "ann@sender.example",
) -> Consignment:
    """Something to carry: `consignment("jon@example.org", parameters={"file": "/mail/jon"})`."""
    id = f"T{next(_ids)}"
    client = Client("192.0.2.1", port=54321, helo="client.example", extended=True, listener="mx")
    envelope = Envelope(None if sender is None else parse_address(sender), client=client)
    route = Deliver(agent, dict(parameters or {}))
    return Consignment(
        Entry(id, NOON, envelope, _HEAD),
        tuple(
            Recipient(f"{id}.{number}", parse_address(each), parse_address(each), route, agent)
            for number, each in enumerate(recipients or ("jon@example.org",))
        ),
        FakeContent(content) if isinstance(content, bytes) else content,
        _HEAD,
    )


#: Whoever mail may be for, and from.
_ODD_RECIPIENTS: Final = (
    "JON+detail@example.org",
    "-x@example.org",
    '"strange \\" one; $(x)"@example.org',
    '"../jon"@example.org',
    "{recipient}@example.org",
    "jon@[192.0.2.7]",
    "jörg@bücher.example",
)


@frozen
class Subject:
    """An agent under test, and where it carries mail to."""

    #: An agent's class, an `IAgentMaker`, the name of one that is installed, or a function `(world)` that makes one.
    agent: Any
    #: Makes it, where `agent` does not say how.
    make: Callable[[World], Any] | None
    #: As the configuration would have them.
    parameters: Mapping[str, Any]
    #: What is where the mail goes, the octets of each message, or `None` if nobody knows.
    kept: Callable[[], Collection[bytes] | None]
    turn: Callable[[FakeWorld], None]
    writes_files: bool

    def made(self) -> Made:
        agent = _found(self.agent)
        fake = FakeWorld()
        made = _make(agent, fake.world) if self.make is None else self.make(fake.world)
        model = parameters_model(agent, "under test") or parameters_model(made, "under test")
        return Made(self, fake, made, model)

    def holds(self, text: bytes) -> bool:
        """Whether this is part of a message that is kept, whatever ends lines there."""
        kept = self.kept()
        return kept is None or any(_unix(text) in _unix(message) for message in kept)


def _found(agent: Any) -> Any:
    found = AGENTS.find(agent) if isinstance(agent, str) else agent
    assert found is not None, f"there is no agent {agent!r}"
    return found


def _make(agent: Any, world: World) -> Any:
    return agent.make(world) if IAgentMaker.providedBy(agent) else agent(world)


@frozen
class Made:
    """An agent of a new world."""

    subject: Subject
    fake: FakeWorld
    agent: Any
    model: type[BaseModel] | None

    @property
    def text(self) -> dict[str, str]:
        """The parameters as a verdict has them."""
        if self.model is not None:
            return as_text(self.model.model_validate(dict(self.subject.parameters)))
        return {key: text_of(value) for key, value in self.subject.parameters.items()}

    def consignment(self, *recipients: str, **more: Any) -> Consignment:
        return consignment(*recipients, **{"parameters": self.text, **more})

    def begin(self, given: Consignment) -> Carrying:
        carrying = Carrying(self, given)
        carrying.begin()
        return carrying

    def carried(self, given: Consignment) -> Mapping[str, Fact]:
        """The fact of each recipient. Raises what the agent raises."""
        return self.begin(given).facts()


class Carrying:
    """A consignment on its way."""

    def __init__(self, made: Made, given: Consignment) -> None:
        self._made = made
        self._given = given
        self._came: list[Any] = []
        self.waiting: Deferred[Any] | None = None

    def begin(self) -> None:
        try:
            answer = start(self._made.agent.carry(self._given))
        except Exception:
            self._came.append(Failure())
            return
        if isinstance(answer, Deferred):
            self.waiting = answer
            answer.addBoth(self._came.append)
        else:
            self._came.append(answer)

    def turn(self) -> None:
        if not self._came:
            self._made.subject.turn(self._made.fake)

    def cancel(self) -> None:
        if self.waiting is not None:
            self.waiting.cancel()

    def facts(self) -> Mapping[str, Fact]:
        for _ in range(_TURNS):
            if self._came:
                break
            self.turn()
        assert self._came, "it has not reported, whatever time it was given"
        came = self._came[0]
        if isinstance(self._given.content, FakeContent):
            self._given.content.closed = True
        if isinstance(came, Failure):
            came.raiseException()
        return _checked(self._given.recipients, came)


def _checked(recipients: Sequence[Recipient], reports: Any) -> Mapping[str, Fact]:
    assert isinstance(reports, Sequence), f"{reports!r} are no reports"
    for report in reports:
        assert isinstance(report, Report), f"{report!r} is no report"
        assert isinstance(report.fact, _FACTS), f"{report.fact!r} is no fact"
    told = [report.recipient.id for report in reports]
    for recipient in recipients:
        count = told.count(recipient.id)
        assert count == 1, f"{count} reports about one recipient, {recipient.address}"
    assert len(told) == len(recipients), "a report about somebody else"
    return {report.recipient.id: report.fact for report in reports}


def _unix(octets: bytes) -> bytes:
    return octets.replace(b"\r\n", b"\n")


def _text(mark: str, lines: int = 3) -> bytes:
    """A message that is told from all others, with lines that begin with dots."""
    first = f"Subject: {mark}\r\n\r\nThis is {mark}.\r\n..two dots\r\n.\r\n"
    return (first + "".join(f".{number} {mark}\r\n" for number in range(lines))).encode()


def _mark() -> str:
    return f"mark-{next(_ids)}-{os.urandom(4).hex()}"


def _all_carried(facts: Mapping[str, Fact]) -> None:
    for fact in facts.values():
        assert isinstance(fact, Carried), f"{fact!r}, although nothing is in the way"


def _provides_its_interface(subject: Subject) -> None:
    assert verifyObject(IAgent, subject.made().agent), "say @implementer(IAgent) above the class"


def _knows_its_parameters(subject: Subject) -> None:
    model = subject.made().model
    if model is None:
        return
    for name, one in model.model_fields.items():
        assert one.description, f"the parameter {name!r} has no description"
    given = model.model_validate(dict(subject.parameters))
    read = from_text(model, as_text(given))
    assert read == given, f"{given!r} is {read!r} when it was kept as text"
    try:
        model.model_validate({**subject.parameters, "a parameter that nobody has": 1})
    except ValidationError:
        return
    raise AssertionError("a key that it does not know went unnoticed: say extra='forbid'")


def _carries_what_it_says(subject: Subject) -> None:
    made = subject.made()
    for form in Form:
        for text in (_text(_mark()), _text(_mark(), 5000)):
            _all_carried(made.carried(made.consignment(content=FakeContent(text, form))))
            assert subject.holds(text), f"it was carried, and is not there as it was ({form.value} content)"


def _reports_each_recipient(subject: Subject) -> None:
    made = subject.made()
    for count in (1, 3, _MANY):
        text = _text(_mark())
        names = [f"jon{number}@example.org" for number in range(count)]
        _all_carried(made.carried(made.consignment(*names, content=text)))
        assert subject.holds(text), f"it was carried for {count}, and is not there"


def _carries_a_message_of_nothing(subject: Subject) -> None:
    made = subject.made()
    for form in Form:
        _all_carried(made.carried(made.consignment(content=FakeContent(b"", form))))


def _carries_mail_from_and_for_anybody(subject: Subject) -> None:
    made = subject.made()
    for sender in (None, "-oQ/tmp@sender.example", "jörg@bücher.example"):
        for recipient in _ODD_RECIPIENTS:
            made.carried(made.consignment(recipient, sender=sender))  # whatever it says, and no exception


def _carries_several_at_once(subject: Subject) -> None:
    made = subject.made()
    texts = [_text(_mark()) for _ in range(3)]
    under_way = [made.begin(made.consignment(content=text)) for text in texts]
    for carrying in under_way:
        _all_carried(carrying.facts())
    for text in texts:
        assert subject.holds(text), "one of several that were carried at the same time is not there"


def _promises_nothing_that_it_could_not_read(subject: Subject) -> None:
    made = subject.made()
    for size in (0, 3, 5000):
        mark = _mark()
        content = FakeContent(_text(mark, size) if size else b"", error=OSError(5, "Input/output error"))
        try:
            facts = made.carried(made.consignment(content=content))
        except OSError:  # its own mistake, after which all are tried again
            facts = {}
        for fact in facts.values():
            assert not isinstance(fact, Carried), "it has carried a message that could not be read"
        kept = subject.kept()
        assert kept is None or not any(mark.encode() in message for message in kept), "a part of a message is there"
    _carries_one_more(made, "a message that could not be read")


def _promises_nothing_without_its_parameters(subject: Subject) -> None:
    made = subject.made()
    if made.model is None or not any(one.is_required() for one in made.model.model_fields.values()):
        return
    try:
        facts = made.carried(made.consignment(parameters={}))
    except Exception:  # its own mistake, after which all are tried again
        return
    for fact in facts.values():
        assert not isinstance(fact, Carried), "it has carried a message without being told where to"


def _can_be_stopped(subject: Subject) -> None:
    made = subject.made()
    for turns in (0, 1, 3, 10, 30):
        text = _text(_mark(), 1000)
        carrying = made.begin(made.consignment("jon@example.org", "ann@example.org", content=text))
        for _ in range(turns):
            carrying.turn()
        carrying.cancel()
        try:
            facts = carrying.facts()
        except CancelledError:
            continue
        if any(isinstance(fact, Carried) for fact in facts.values()):
            assert subject.holds(text), "it was cancelled, and says that it has carried what is not there"
    _carries_one_more(made, "one that was cancelled")


def _carries_one_more(made: Made, before: str) -> None:
    text = _text(_mark())
    _all_carried(made.carried(made.consignment(content=text)))
    assert made.subject.holds(text), f"it was carried after {before}, and is not there"


def _syncs_before_it_promises(subject: Subject) -> None:
    if not subject.writes_files:
        return
    made = subject.made()
    synced: list[int] = []
    with _watched("fsync", synced), _watched("fdatasync", synced):
        for _ in range(2):
            synced.clear()
            _all_carried(made.carried(made.consignment(content=_text(_mark()))))
            assert synced, "it says that the copy is durable, and has not synced anything"


def _watched(name: str, synced: list[int]) -> Any:
    real = getattr(os, name)

    def sync(fd: Any) -> None:
        real(fd)
        synced.append(1)

    return mock.patch.object(os, name, sync)


CLAUSES: Final = (
    _provides_its_interface,
    _knows_its_parameters,
    _carries_what_it_says,
    _reports_each_recipient,
    _carries_a_message_of_nothing,
    _carries_mail_from_and_for_anybody,
    _carries_several_at_once,
    _promises_nothing_that_it_could_not_read,
    _promises_nothing_without_its_parameters,
    _can_be_stopped,
    _syncs_before_it_promises,
)


def _a_tenth_of_a_second(fake: FakeWorld) -> None:
    fake.clock.advance(0.1)


def check_agent(
    agent: Any,
    parameters: Mapping[str, Any] | None = None,
    *,
    kept: Callable[[], Collection[bytes] | None] = lambda: None,
    turn: Callable[[FakeWorld], None] = _a_tenth_of_a_second,
    writes_files: bool = False,
) -> None:
    """
    Whether an agent keeps its contract. Raises `AssertionError` if not, or what the agent raises.

    `agent` is an agent's class, an `IAgentMaker`, the name of one that is installed, or a function `(world)` that makes
    one; `parameters` are as the configuration would have them. `kept` has the octets of each message that is where the
    mail goes. `turn` lets time pass, for an agent that waits for something else than `world.clock`. `writes_files`: it
    is watched whether it syncs what it writes.
    """
    subject = Subject(agent, None, parameters or {}, kept, turn, writes_files)
    for clause in CLAUSES:
        clause(subject)


class AgentContract:
    """The same as tests, one for each clause. Mix it into a test case, and say which agent it is about."""

    agent: ClassVar[Any]
    parameters: Mapping[str, Any] = {}  # nobody changes it; a test sets its own
    writes_files: bool = False

    def kept(self) -> Collection[bytes] | None:
        """The octets of each message that is where the mail goes; `None`: nobody knows."""
        return None

    def turn(self, fake: FakeWorld) -> None:
        """Let time pass, for an agent that waits for something."""
        _a_tenth_of_a_second(fake)

    def make_agent(self, world: World) -> Any:
        """Make the agent. For a test that makes it otherwise than a relay would."""
        return _make(_found(self.agent), world)

    @property
    def subject(self) -> Subject:
        return Subject(self.agent, self.make_agent, self.parameters, self.kept, self.turn, self.writes_files)

    def carried(self, *recipients: str, **more: Any) -> Mapping[str, Fact]:
        """The facts of a consignment, by the recipient's address; the arguments are those of `consignment`."""
        made = self.subject.made()
        given = made.consignment(*recipients, **more)
        facts = made.carried(given)
        return {str(each.address): facts[each.id] for each in given.recipients}

    def test_it_provides_its_interface(self) -> None:
        _provides_its_interface(self.subject)

    def test_it_knows_and_describes_its_parameters(self) -> None:
        _knows_its_parameters(self.subject)

    def test_what_it_says_was_carried_is_there(self) -> None:
        _carries_what_it_says(self.subject)

    def test_it_makes_one_report_for_each_recipient(self) -> None:
        _reports_each_recipient(self.subject)

    def test_it_carries_a_message_of_nothing(self) -> None:
        _carries_a_message_of_nothing(self.subject)

    def test_it_bears_any_sender_and_any_recipient(self) -> None:
        _carries_mail_from_and_for_anybody(self.subject)

    def test_it_carries_several_messages_at_the_same_time(self) -> None:
        _carries_several_at_once(self.subject)

    def test_it_promises_nothing_that_it_could_not_read(self) -> None:
        _promises_nothing_that_it_could_not_read(self.subject)

    def test_it_promises_nothing_without_its_parameters(self) -> None:
        _promises_nothing_without_its_parameters(self.subject)

    def test_it_can_be_stopped_at_any_moment(self) -> None:
        _can_be_stopped(self.subject)

    def test_it_syncs_before_it_promises(self) -> None:
        _syncs_before_it_promises(self.subject)
