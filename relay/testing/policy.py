"""
For those who write policies: the world in memory, and the contract as a test case.

    class HolidayTests(PolicyContract, SynchronousTestCase):
        policy = Holiday
        options = {"recipients": ["jon@example.org"]}

        def test_mail_for_jon_is_asked_to_come_again(self) -> None:
            verdict = self.ask("jon@example.org")
            self.assertIsInstance(verdict, Delay)

Those are tests that pytest and trial find, beside your own. `check_policy` is the same as a function.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, get_args

from attrs import field, frozen
from pydantic import BaseModel, ValidationError
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from relay.interfaces import IContentPolicy, ITable, World
from relay.mail.address import parse_address
from relay.mail.envelope import Client
from relay.mail.phases import Wants
from relay.mail.routing import Inquiry
from relay.net.clock import ReactorClock
from relay.net.waiting import start
from relay.policy.elsewhere import Crossing, blocking
from relay.policy.registry import PHASES, find_maker, policy_maker
from relay.policy.tables import Tables
from relay.store.memory import MemoryStore
from relay.testing.http import FakeHttp, Servers
from relay.testing.questions import Question, in_each_phase, phase_of, put, told
from relay.testing.tables import MemoryTable

#: When the world begins, unless a test says otherwise: 2026-11-23T12:00:00Z, a Monday.
NOON: Final = 1795435200.0


class FakeWorld:
    """
    The world of a test: `clock` moves when the test says so, `names` is the DNS, `http` answers by URL, `tables` has
    the `[[table]]`s by name, `store` is what policies keep; `world` is what a policy is handed.

    Chance is the same in every run.
    """

    def __init__(
        self,
        names: Mapping[str, Any] | None = None,
        *,
        hostname: str = "mx.example.org",
        now: float = NOON,
        http: Servers | None = None,
        tables: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        from relay.testing.dns import FakeNames

        self.clock = Clock()
        self.names = FakeNames(names)
        self.http = FakeHttp(http)
        self.tables = {name: MemoryTable(values) for name, values in (tables or {}).items()}
        time = ReactorClock(self.clock, lambda: now + self.clock.seconds())
        self.store = MemoryStore(time)
        self._files = Tables((), time)
        self.world = World(
            clock=time,
            resolver=self.names,
            random=random.Random(1),  # noqa: S311  # chance in a test keeps no secrets
            log=Logger(namespace="relay.testing.policy"),
            hostname=hostname,
            store=self.store,
            http=self.http,
            table=self._table,
        )

    def _table(self, name: str | Path) -> ITable:
        """One of `tables`, or the file that is really there."""
        return self.tables[name] if isinstance(name, str) and name in self.tables else self._files(name)


def world(names: Mapping[str, Any] | None = None, *, hostname: str = "mx.example.org", now: float = NOON) -> World:
    """A `World` whose time stands still."""
    return FakeWorld(names, hostname=hostname, now=now).world


def inquiry(
    recipient: str,
    sender: str = "ann@sender.example",
    client: str | None = "192.0.2.1",
    *,
    original: str | None = None,
    helo: str = "client.example",
    listener: str = "mx",
    user: str | None = None,
) -> Inquiry:
    """The question about one recipient: `inquiry("jon@example.org", "<>", "127.0.0.1")`."""
    return Inquiry(
        recipient=parse_address(recipient),
        original=parse_address(original or recipient),
        reverse_path=None if sender == "<>" else parse_address(sender),
        client=Client(client, port=54321, helo=helo, extended=True, listener=listener, user=user),
    )


#: What any policy may be asked, whoever it is for.
INQUIRIES: Final = (
    inquiry("jon@example.org"),
    inquiry("JON+detail@example.org", "<>"),
    inquiry("postmaster@example.org", client="127.0.0.1", listener="local"),
    inquiry("jon@localhost", "jon@localhost", "::1", user="jon"),
    inquiry("jon@[192.0.2.7]", client="2001:db8::1"),
    inquiry('"strange \\" one"@example.org', client=None),
    inquiry("jörg@example.org", "jörg@sender.example"),
    inquiry("member@example.org", original="team@example.org"),
)

#: Seconds that a policy is given here: as many as the configuration gives it if it says nothing.
_PATIENCE: Final = 10


@frozen
class Subject:
    """A policy under test, with its options and its world."""

    #: A policy class, an `IPolicyMaker`, or the word for `use` of one that is installed.
    policy: Any
    options: Mapping[str, Any] = field(factory=dict)
    names: Mapping[str, Any] = field(factory=dict)
    #: What the `[[table]]`s of the configuration say, by their names.
    tables: Mapping[str, Mapping[str, str]] = field(factory=dict, kw_only=True)
    inquiries: tuple[Question, ...] = ()

    @property
    def maker(self) -> Any:
        if isinstance(self.policy, str):
            maker = find_maker(self.policy)
            assert maker is not None, f"there is no policy {self.policy!r}"
            return maker
        return policy_maker(self.policy, "under test")

    @property
    def questions(self) -> list[Question]:
        """All that it is asked, in each of its phases."""
        return list(in_each_phase(self.make(self.world()), (*INQUIRIES, *self.inquiries)))

    def world(self) -> FakeWorld:
        """A new world for it."""
        return FakeWorld(self.names, tables=self.tables)

    def make(self, fake: FakeWorld) -> Any:
        """The policy, as it would be made for this world."""
        maker = self.maker
        world = fake.world
        if getattr(maker, "blocking", False) is True:
            world = blocking(world, Crossing(None, 0))
        return maker.make(maker.options.model_validate(dict(self.options)), world)

    def asked(self, *questions: Question) -> list[Any]:
        """What a new policy in a new world says to these questions, one after the other."""
        fake = self.world()
        policy = self.make(fake)
        return [_answer(fake, policy, question) for question in questions]


def _answer(fake: FakeWorld, policy: Any, question: Question) -> Any:
    answer = start(put(policy, question))
    if isinstance(answer, Deferred):
        came: list[Any] = []
        answer.addBoth(came.append)
        for _ in range(_PATIENCE * 10):
            if came:
                break
            fake.clock.advance(0.1)
        assert came, f"it has not answered about {told(question)} within {_PATIENCE} seconds"
        answer = came[0]
        if isinstance(answer, Failure):
            answer.raiseException()
    verdicts = tuple(phase_of(question).verdicts)
    assert isinstance(answer, verdicts), f"{answer!r} about {told(question)} is no verdict"
    return answer


def _provides_a_policy_interface(subject: Subject) -> None:
    policy = subject.make(subject.world())
    provided = [phase for phase in PHASES if phase.providedBy(policy)]
    assert provided, "it provides no policy interface: say @implementer(IRoutingPolicy) above the class"
    for phase in provided:
        verifyObject(phase, policy)
    if IContentPolicy.providedBy(policy):
        assert policy.wants in get_args(Wants), f"{policy.wants!r} is nothing that a content policy can want"


def _knows_its_options(subject: Subject) -> None:
    model: type[BaseModel] = subject.maker.options
    for name, option in model.model_fields.items():
        assert option.description, f"the option {name!r} has no description"
    try:
        model.model_validate({**subject.options, "an option that nobody has": 1})
    except ValidationError:
        return
    raise AssertionError("a key that it does not know went unnoticed: say extra='forbid'")


def _answers_with_verdicts(subject: Subject) -> None:
    subject.asked(*subject.questions)


def _answers_the_same_in_the_same_world(subject: Subject) -> None:
    for question in subject.questions:
        (first,), (second,) = subject.asked(question), subject.asked(question)
        assert first == second, f"{first!r} and then {second!r} about {told(question)}"


def _answers_each_question_by_itself(subject: Subject) -> None:
    questions = subject.questions
    for question, verdict in zip(questions, subject.asked(*questions), strict=True):
        (alone,) = subject.asked(question)
        assert verdict == alone, f"{verdict!r} about {told(question)} after other questions, {alone!r} without"


def _keeps_what_it_knows_in_its_store(subject: Subject) -> None:
    lasting, restarted = subject.world(), subject.world()
    policy = subject.make(lasting)
    for question in subject.questions:
        verdict = _answer(lasting, policy, question)
        anew = _answer(restarted, subject.make(restarted), question)
        assert verdict == anew, f"{verdict!r} about {told(question)}, and {anew!r} if it was made anew before"


def check_policy(
    policy: Any,
    options: Mapping[str, Any] | None = None,
    *,
    names: Mapping[str, Any] | None = None,
    tables: Mapping[str, Mapping[str, str]] | None = None,
    inquiries: Iterable[Question] = (),
    remembers: bool = False,
) -> None:
    """
    Whether a policy keeps its contract. Raises `AssertionError` if not, or what the policy raises.

    `policy` is a policy class, an `IPolicyMaker`, or the word for `use` of one that is installed; `options` are as the
    configuration would have them; `names` is what is in the DNS, `tables` what the tables say, by name. `inquiries`
    are asked beside the usual ones: best of all some that it does not abstain from; one about a recipient is asked in
    each phase that the policy provides, all others in theirs. `remembers` says that its answer may depend on those
    before (a limit): on what is in `world.store`, and on nothing else, so that a restart loses nothing and somebody
    may ask without leaving a trace.
    """
    subject = Subject(policy, options or {}, names or {}, tuple(inquiries), tables=tables or {})
    _provides_a_policy_interface(subject)
    _knows_its_options(subject)
    _answers_with_verdicts(subject)
    _answers_the_same_in_the_same_world(subject)
    _keeps_what_it_knows_in_its_store(subject)
    if not remembers:
        _answers_each_question_by_itself(subject)


class PolicyContract:
    """The same as tests, one for each clause. Mix it into a test case, and say which policy it is about."""

    policy: ClassVar[Any]
    options: ClassVar[Mapping[str, Any]] = {}
    names: ClassVar[Mapping[str, Any]] = {}
    tables: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    inquiries: ClassVar[Iterable[Question]] = ()
    remembers: ClassVar[bool] = False

    @property
    def subject(self) -> Subject:
        return Subject(self.policy, self.options, self.names, tuple(self.inquiries), tables=self.tables)

    def ask(self, recipient: str, *arguments: Any, **more: Any) -> Any:
        """The verdict of a new policy about a recipient; the other arguments are those of `inquiry`."""
        return self.put(inquiry(recipient, *arguments, **more))

    def put(self, question: Question) -> Any:
        """The verdict of a new policy, in whatever phase this is a question of (`relay.testing.questions`)."""
        return self.subject.asked(question)[0]

    def test_it_provides_a_policy_interface(self) -> None:
        _provides_a_policy_interface(self.subject)

    def test_it_knows_and_describes_its_options(self) -> None:
        _knows_its_options(self.subject)

    def test_it_answers_with_verdicts(self) -> None:
        _answers_with_verdicts(self.subject)

    def test_in_the_same_world_it_answers_the_same(self) -> None:
        _answers_the_same_in_the_same_world(self.subject)

    def test_it_keeps_what_it_knows_in_its_store(self) -> None:
        _keeps_what_it_knows_in_its_store(self.subject)

    def test_it_answers_each_question_by_itself(self) -> None:
        if not self.remembers:
            _answers_each_question_by_itself(self.subject)
