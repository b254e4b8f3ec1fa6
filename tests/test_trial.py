"""What a configuration would do, before it is in force: who may send what to whom, and its examples."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import settings as fewer
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

import relay.trial
from relay.cli.matrix import lines
from relay.config.errors import ConfigurationError
from relay.config.load import load
from relay.interfaces import IContentPolicy, IRoutingPolicy, ISenderPolicy, World
from relay.mail.answer import Unanswered
from relay.mail.phases import ContentInquiry, SenderInquiry
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Delay, Forward, Hold, Inquiry, Reject
from relay.policy import kinds
from relay.policy.registry import option_model
from relay.trial import Trial, tried

PUBLIC = '[[listener]]\nname = "mx"\naddress = "[::]:25"\n'
PRIVATE = '[[listener]]\nname = "home"\naddress = "127.0.0.1:25"\n[[listener]]\nname = "s"\naddress = "unix:s"\n'
SUBMISSION = (
    '[auth]\npasswords = "users"\n[[listener]]\nname = "people"\naddress = "[::]:465"\n'
    'protocol = "submission"\ntls = "implicit"\n'
)
MAILBOXES = '[[policy]]\nuse = "mailbox"\ndomains = ["here.example"]\nusers = ["jon"]\ndirectory = "mail"\n'


def policy(use: str, when: str = "") -> str:
    return f'[[policy]]\nuse = "{use}"\n' + (f"when = {{ {when} }}\n" if when else "")


def trial(*parts: str) -> Trial:
    text = "".join(parts)
    read = load(text, file="x", base=Path("/etc"), hostname="mx.test", user="ann", option_model=option_model)
    return tried(read, file="x")


def problems(*parts: str) -> list[str]:
    return [str(problem) for problem in trial(*parts).problems]


class Base:
    def __init__(self, options: object, world: World) -> None:
        self.world = world


@implementer(IRoutingPolicy)
class Loops(Base):
    """Never comes to an end."""

    def route(self, inquiry: Inquiry) -> Any:
        while True:
            pass


@implementer(ISenderPolicy)
class AsksByHttp(Base):
    """Lets nobody pass whom a server does not know."""

    async def sender(self, inquiry: SenderInquiry) -> Any:
        await self.world.http.request("GET", "https://who.example/")
        return ABSTAIN


@implementer(IRoutingPolicy)
class AsksAndDecides(Base):
    async def route(self, inquiry: Inquiry) -> Any:
        await self.world.resolver.look_up("example.org", "TXT")
        return Forward("example.org")


@implementer(IRoutingPolicy)
class WantsAnAnswer(Base):
    """Goes on only when the DNS has said something."""

    async def route(self, inquiry: Inquiry) -> Any:
        said = await self.world.resolver.look_up("example.org", "TXT")
        return Delay(Reply.of(451, "4.4.3", "later")) if isinstance(said, Unanswered) else ABSTAIN


@implementer(IRoutingPolicy)
class TlsFirst(Base):
    def route(self, inquiry: Inquiry) -> Any:
        return ABSTAIN if inquiry.client.tls else Reject(Reply.of(550, "5.7.0", "only by TLS"))


@implementer(IContentPolicy)
class HoldsSecrets(Base):
    wants = "headers"

    def examine(self, inquiry: ContentInquiry) -> Any:
        return Hold() if "Secret" in inquiry.fields else ABSTAIN


@implementer(IRoutingPolicy)
class AlwaysLater(Base):
    def route(self, inquiry: Inquiry) -> Any:
        return Delay(Reply.of(450, "4.2.1", "later"))


@implementer(IRoutingPolicy)
class Blocks(Base):
    """Half a second each time."""

    blocking = True
    now = 0.0

    def route(self, inquiry: Inquiry) -> Any:
        Blocks.now += 0.5
        return ABSTAIN


@implementer(IRoutingPolicy)
class NeverAnswers(Base):
    def route(self, inquiry: Inquiry) -> Any:
        return Deferred()


@implementer(IRoutingPolicy)
class Slips(Base):
    def route(self, inquiry: Inquiry) -> Any:
        return {}["no"]


@implementer(IRoutingPolicy)
class SaysNothing(Base):
    def route(self, inquiry: Inquiry) -> Any:
        return None


HERE = "tests.test_trial"


class OpenRelayTests(SynchronousTestCase):
    def test_who_forwards_for_everybody_is_an_open_relay(self) -> None:
        self.assertEqual(
            problems(PUBLIC, PRIVATE, policy("forward")),
            [
                "x:10: policy.1: anybody who connects to mx can send mail to anybody by way of 'forward': it should say "
                "'when = { client = ... }' or 'when = { authenticated = true }'; or say open_relay = \"I mean it\" at "
                "the top of the file"
            ],
        )

    def test_who_says_that_it_is_meant_is_warned(self) -> None:
        found = trial('open_relay = "I mean it"\n', PUBLIC, policy("forward"))
        self.assertEqual((found.problems, len(found.warnings)), ((), 1))

    def test_what_is_no_condition(self) -> None:
        for when in (
            'client = ["0.0.0.0/0"]',
            'client = ["127.0.0.1", "::/0"]',
            'client = ["0.0.0.0/1", "10.0.0.0/8"]',
            'sender = ["example.org"]',
            'sender = ["jon@example.org"]',
            'sender = ["<>"]',
            "authenticated = false",
            'listener = ["mx"]',
        ):
            self.assertEqual(len(problems(PUBLIC, policy("forward", when))), 1, when)

    def test_what_is_one(self) -> None:
        for when in (
            'client = ["10.0.0.0/8"]',
            'client = ["192.0.2.0/24"]',
            'recipient = ["example.org"]',
            "authenticated = true",
            'listener = ["home"]',
        ):
            self.assertEqual(problems(PUBLIC, PRIVATE, policy("forward", when)), [], when)

    def test_listeners_where_no_stranger_comes_in(self) -> None:
        for listeners in ("", PRIVATE, SUBMISSION, SUBMISSION + PRIVATE):
            self.assertEqual(problems(listeners, policy("forward")), [], listeners)

    def test_a_socket_of_systemds_may_be_anywhere_and_who_speaks_for_others_brings_anybody(self) -> None:
        here = 'address = "127.0.0.1:2525"\n'
        for listener in (
            'address = "systemd:smtp"',
            here + 'proxy = ["127.0.0.1"]',
            here + 'xclient = ["127.0.0.1"]',
            'address = "[::1]:2525"\nxclient = ["::1"]',
        ):
            self.assertEqual(len(problems(f'[[listener]]\nname = "x"\n{listener}\n', policy("forward"))), 1, listener)

    def test_who_comes_by_xclient_may_be_of_either_family(self) -> None:
        listener = '[[listener]]\nname = "x"\naddress = "0.0.0.0:2525"\nxclient = ["10.0.0.1"]\n'
        nobody_by_ipv4 = policy("reject", 'client = ["0.0.0.0/1", "128.0.0.0/1"]')
        self.assertEqual(len(problems(listener, nobody_by_ipv4, policy("forward"))), 1)

    def test_whom_a_policy_before_it_has_turned_away_does_not_come_so_far(self) -> None:
        for before, doors in (
            (policy("reject"), 0),
            (policy("reject", "authenticated = false"), 0),
            (policy("discard", 'listener = ["mx"]'), 0),
            (policy("reject", 'client = ["0.0.0.0/0"]'), 1),
            (policy("reject", 'sender = ["example.org"]'), 1),
            (policy("reject", 'recipient = ["example.org"]'), 1),
            (policy("reject").replace("reject", 'reject"\nmode = "off'), 1),
            (policy("deliver", "authenticated = false") + 'agent = "console"\n', 0),
            (policy("deliver") + 'agent = "console"\ndomains = ["a.test"]\n', 1),
            (MAILBOXES, 1),
        ):
            self.assertEqual(len(problems(PUBLIC, before, policy("forward"))), doors, before)

    def table(self, *keys: str) -> str:
        """A file with these addresses and domains."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = Path(directory.name, "table").resolve()
        path.write_text("".join(f"{key} mx.example.org\n" for key in keys))
        return f'file = "{path}"\n'

    def test_strangers_are_where_hosts_of_the_internet_are_and_not_where_nobody_is(self) -> None:
        bogons = (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
            *("192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
        )
        listener = '[[listener]]\nname = "mx"\naddress = "0.0.0.0:25"\n'
        turned_away = policy("reject", "client = [" + ", ".join(f'"{each}"' for each in bogons) + "]")
        self.assertEqual(len(problems(listener, turned_away, policy("forward"))), 1)

    def test_so_are_their_domains(self) -> None:
        nobodys = (".example", ".test", ".invalid", ".localhost")
        for look_up, keys in (
            ("recipient", nobodys),
            ("recipient", (*nobodys, ".com")),
            ("recipient", (".com", ".org", ".net", ".de")),  # and an address literal is left
            ("sender", (*nobodys, "<>")),
            ("sender", (".com", "<>")),
        ):
            turned_away = policy("reject") + f'look_up = "{look_up}"\n{self.table(*keys)}'
            self.assertEqual(len(problems(PUBLIC, turned_away, policy("forward"))), 1, (look_up, keys))

    def test_one_that_gets_through_is_enough(self) -> None:
        for domain in ".com", ".org", ".de":
            self.assertEqual(len(problems(PUBLIC, policy("forward") + self.table(domain))), 1, domain)
        self.assertEqual(problems(PUBLIC, policy("forward") + self.table("there.com")), [])

    def test_networks_where_nobody_far_away_is_let_nobody_in(self) -> None:
        when = 'client = ["127.0.0.0/8", "::1", "10.0.0.0/8", "172.16.0.0/12", "fc00::/7", "fe80::/10", "100::/8"]'
        self.assertEqual(problems(PUBLIC, policy("forward", when)), [])

    def test_networks_that_are_together_anybody_are_anybody(self) -> None:
        halves = ", ".join(f'"{number}.0.0.0/8"' for number in range(20, 60, 2))
        self.assertEqual(len(problems(PUBLIC, policy("forward", f"client = [{halves}]"))), 1)
        self.assertEqual(len(problems(PUBLIC, policy("forward", 'client = ["::ffff:0:0/96"]'))), 1)
        # Whom another one turns away is not among them.
        away = policy("reject", f"client = [{halves}]")
        self.assertEqual(len(problems(PUBLIC, away, policy("forward", 'client = ["0.0.0.0/0"]'))), 1)
        self.assertEqual(problems(PUBLIC, away, policy("forward", f"client = [{halves}]")), [])
        own = policy("forward", 'client = ["198.51.0.0/16", "20.0.0.0/16"]')
        self.assertEqual(problems(PUBLIC, away, own), [])

    def test_no_sender_and_no_listener_is_left_out(self) -> None:
        listeners = "".join(f'[[listener]]\nname = "l{at}"\naddress = "0.0.0.0:{3000 + at}"\n' for at in range(20))
        policies = "".join(
            policy("forward", f'listener = ["l{at}"], sender = ["s{at}.example"], client = ["10.{at}.0.0/16"]')
            + f'name = "p{at}"\n'
            for at in range(20)
        )
        self.assertEqual(problems(listeners, policies), [])
        door = policy("forward", 'listener = ["l19"], sender = ["s19.example"]')
        found = trial(listeners, policies, door)
        self.assertGreater(found.matrix.left_out, 0)
        self.assertEqual(len(found.problems), 1)
        self.assertIn("anybody who connects to l19", found.problems[0].text)

    def test_what_there_was_no_time_to_ask_is_told(self) -> None:
        self.patch(kinds, "MOST_OF_STRANGERS", 10)
        (warning,) = trial(PUBLIC, policy("reject")).warnings
        self.assertRegex(warning.text, r"too many listeners and senders: \d+ mails of strangers .* is not known$")

    def test_a_stranger_may_begin_tls(self) -> None:
        for level, doors in ("none", 0), ("offer", 1), ("require", 1), ("implicit", 1):
            listener = PUBLIC + f'tls = "{level}"\n'
            self.assertEqual(len(problems(listener, policy(f"{HERE}:TlsFirst"), policy("forward"))), doors, level)
        table = list(lines(trial(PUBLIC + 'tls = "offer"\n', policy(f"{HERE}:TlsFirst")).matrix))
        self.assertTrue(any("by TLS" in line for line in table), table)
        table = list(lines(trial(PUBLIC + 'tls = "offer"\n', policy("reject")).matrix))
        self.assertFalse(any("by TLS" in line for line in table), table)

    def test_whoever_is_believed_that_he_is_somebody_else_is_let_in(self) -> None:
        public, local = PUBLIC, PUBLIC.replace("[::]", "127.0.0.1")
        home = policy("forward", 'client = ["127.0.0.0/8"]')
        for key in "proxy", "xclient":
            for networks in '"0.0.0.0/1", "128.0.0.0/1"', '"10.0.0.0/8", "::/0"', '"20.0.0.0/8", "30.0.0.0/8"':
                door = f"{key} = [{networks}]\n"
                (found,) = problems(public + door, home)
                self.assertRegex(found, rf"^x:4: listener\.1\.{key}: anybody can say here that he is somebody else")
                found_when_meant = trial('open_relay = "I mean it"\n', public, door, home)
                self.assertEqual((found_when_meant.problems, len(found_when_meant.warnings)), ((), 1))
                self.assertEqual(problems(local + door, home), [])
            for networks in '"10.0.0.0/8", "fc00::/7"', '"20.0.0.0/8"', '"198.51.100.7"':
                self.assertEqual(problems(public + f"{key} = [{networks}]\n", home), [], networks)

    def test_a_policy_that_is_off_forwards_nothing(self) -> None:
        self.assertEqual(problems(PUBLIC, policy("forward"), 'mode = "off"\n'), [])

    def test_it_is_said_of_the_first_that_has_them_and_not_of_those_behind_it(self) -> None:
        self.assertEqual(len(problems(PUBLIC, policy("forward"), policy("forward"))), 1)

    def test_who_takes_mail_by_lmtp_delivers_it(self) -> None:
        self.assertEqual(problems(PUBLIC, policy("forward"), 'protocol = "lmtp"\nnext_hop = "127.0.0.1:24"\n'), [])

    def test_who_is_asked_to_come_again_comes_again(self) -> None:
        for delay in "1m", "3h", "20h":
            found = trial(PUBLIC, policy("greylist"), f'delay = "{delay}"\n', policy("forward"))
            self.assertEqual(len(found.problems), 1, delay)
            self.assertIn("450 4.7.1, and then forward", {each.answer for each in found.matrix.found})
        self.assertEqual(problems(PUBLIC, policy(f"{HERE}:AlwaysLater"), policy("forward")), [])
        found = trial(PUBLIC, policy("greylist"), MAILBOXES)
        self.assertIn("450 4.7.1, and then 550 5.1.1", {each.answer for each in found.matrix.found})

    def test_a_policy_that_blocks_is_not_asked_for_ever(self) -> None:
        """A minute of waiting before a relay starts is a minute without mail."""
        self.patch(relay.trial, "monotonic", lambda: Blocks.now)
        self.addCleanup(setattr, Blocks, "now", 0.0)
        found = trial(PUBLIC, policy(f"{HERE}:Blocks"), MAILBOXES, policy("forward", 'sender = ["jon@here.example"]'))
        self.assertEqual(Blocks.now, 5.0)
        said = [(each.key, each.text) for each in found.warnings]
        self.assertIn("'Blocks' blocks, and after 5 s it was not asked any more", said[-1][1])
        self.assertEqual(said[-1][0], "policy.1")
        unknown = [each for each in found.matrix.found if each.unless]
        self.assertEqual({each.unless for each in unknown}, {("Blocks",)})

    def test_a_policy_that_blocks_for_a_moment_is_asked_about_all(self) -> None:
        self.patch(relay.trial, "monotonic", lambda: 0.0)
        self.addCleanup(setattr, Blocks, "now", 0.0)
        found = trial(PUBLIC, policy(f"{HERE}:Blocks"), MAILBOXES)
        self.assertEqual((found.warnings, [each for each in found.matrix.found if each.unless]), ((), []))

    def test_a_name_that_is_taken_for_a_domain_is_a_warning(self) -> None:
        forward = policy(
            "forward", 'recipient = ["localhost", "intra", "mx.test", "jon"], sender = ["<>", "[192.0.2.1]"]'
        )
        found = trial("hostname = 'mx.test'\n", PUBLIC, MAILBOXES.replace('["', '["intra", "', 1), forward)
        self.assertEqual(
            [(each.key, each.text) for each in found.warnings],
            [("policy.2.when.recipient.4", "'jon' is taken for a domain: an address is written like 'jon@mx.test'")],
        )

    def test_a_policy_whose_code_is_wrong_is_a_warning_with_file_and_line(self) -> None:
        found = trial(PUBLIC, policy(f"{HERE}:Slips"), MAILBOXES)
        self.assertEqual([each.key for each in found.warnings], ["policy.1"])
        said = found.warnings[0].text
        self.assertRegex(said, r"^'Slips' raises KeyError: 'no', at .*test_trial\.py:\d+ \(Slips\.route\): its mail is")
        (said,) = [each.text for each in trial(PUBLIC, policy(f"{HERE}:SaysNothing")).warnings]
        self.assertEqual(said, "'SaysNothing' answers with None, which is no verdict: its mail is answered with 451")

    def test_a_policy_that_fails_since_nobody_is_asked_here_may_be_right(self) -> None:
        self.assertEqual(trial(PUBLIC, policy(f"{HERE}:AsksByHttp")).warnings, ())

    def test_who_never_answers_is_waited_for_by_a_clock_that_costs_nothing(self) -> None:
        limits = '[limits]\npolicies_at_command = "23h"\n'
        found = trial(limits, PUBLIC, policy(f"{HERE}:NeverAnswers"), 'timeout = "22h"\n', policy("forward"))
        self.assertEqual({each.answer for each in found.matrix.found}, {"451 4.3.0"})

    def test_who_never_comes_to_an_end_is_named_with_file_and_line(self) -> None:
        limit = "[process]\nstall_limit = 0.3\n"
        with self.assertRaises(ConfigurationError) as caught:
            trial(limit, PUBLIC, MAILBOXES, policy(f"{HERE}:Loops"), 'name = "endless"\n')
        (problem,) = caught.exception.problems
        self.assertEqual((problem.key, problem.line), ("policy.2", 11))
        line = Loops.route.__code__.co_firstlineno + 1
        self.assertRegex(
            problem.text,
            "'endless' does not come to an end within 0.3 s when asked what would become of a mail: "
            rf".*test_trial\.py:({line}|{line + 1}) \(Loops\.route\)",
        )

    def test_counts_of_one_mail_do_not_count_for_the_next(self) -> None:
        limited = policy("rate-limit") + 'rate = "1/1h"\nby = ["client"]\n'
        found = trial(PUBLIC, limited, policy("forward"))
        self.assertEqual(len(found.problems), 1)
        self.assertEqual({each.answer for each in found.matrix.found}, {"forward"})

    def test_what_only_the_outside_could_tell_is_unknown_and_no_problem(self) -> None:
        for asking in policy("sender-domain"), policy(f"{HERE}:AsksByHttp"):
            found = trial(PUBLIC, asking, policy("forward", 'sender = ["a.example"]'))
            self.assertEqual((found.problems, len(found.warnings)), ((), 1))
            self.assertRegex(str(found.warnings[0]), "can send mail to anybody by way of 'forward', if '")
        found = trial(PUBLIC, policy(f"{HERE}:AsksAndDecides"))
        self.assertEqual((found.problems, len(found.warnings)), ((), 1))
        self.assertRegex(str(found.warnings[0]), "'AsksAndDecides', if 'AsksAndDecides' .* finds out what permits it")
        self.assertEqual({each.unless for each in found.matrix.found}, {("AsksAndDecides",)})

    def test_what_policies_find_out_by_asking_may_be_what_permits_it(self) -> None:
        for when, warnings in (
            ('facts = { fcrdns = ["pass"] }', 1),
            ('facts = { fcrdns = ["fail", "pass"], helo = "match" }', 1),
            ('facts = { fcrdns = ["pass"] }, client = ["10.0.0.0/8"]', 0),
            ('facts = { fcrdns = ["pass"] }, authenticated = true', 0),
        ):
            found = trial(PUBLIC, policy("client-names"), policy("forward", when))
            self.assertEqual((found.problems, len(found.warnings)), ((), warnings), when)
        passes, fails = 'facts = { fcrdns = ["pass"] }', 'facts = { fcrdns = ["fail"] }'
        found = trial(PUBLIC, policy("client-names"), policy("reject", passes), policy("forward", fails))
        self.assertRegex(str(found.warnings[0]), "'forward', if 'client-names' .* finds out what permits it")
        found = trial(PUBLIC, policy("client-names"), policy("reject", passes), policy("forward", passes))
        self.assertEqual(found.warnings, ())

    def test_who_asks_others_only_when_a_client_comes_again_is_unknown_too(self) -> None:
        found = trial(PUBLIC, policy("greylist"), policy(f"{HERE}:WantsAnAnswer"), policy("forward"))
        self.assertEqual((found.problems, len(found.warnings)), ((), 1))
        self.assertRegex(str(found.warnings[0]), "'forward', if 'WantsAnAnswer' .* has nothing against it")

    def test_what_nobody_asked_the_outside_about_is_certain_all_the_same(self) -> None:
        """`sender-domain` has no opinion on the null reverse-path."""
        self.assertEqual(len(problems(PUBLIC, policy("sender-domain"), policy("forward"))), 1)

    @fewer(max_examples=60, deadline=None)
    @given(
        st.lists(st.sampled_from(["10.0.0.0/8", "192.0.2.0/24", "127.0.0.0/8", "2001:db8::/32"]), max_size=3),
        st.sampled_from(["", "authenticated = true", "authenticated = false", 'recipient = ["b.example"]']),
        st.booleans(),
    )
    def test_whoever_would_relay_for_a_stranger_is_found(self, networks: list[str], more: str, mailboxes: bool) -> None:
        conditions = [f"client = {networks}".replace("'", '"')] if networks else []
        conditions += [more] if more else []
        is_open = not networks and more in ("", "authenticated = false")
        found = problems(PUBLIC, MAILBOXES if mailboxes else "", policy("forward", ", ".join(conditions)))
        self.assertEqual(bool(found), is_open)


class MatrixTests(SynchronousTestCase):
    def rows(self, *parts: str) -> list[str]:
        return list(lines(trial(*parts).matrix))

    def test_what_makes_no_difference_is_one_row(self) -> None:
        self.assertEqual(
            self.rows(PUBLIC, MAILBOXES, policy("forward", 'client = ["10.0.0.0/8"]')),
            [
                "listener  client                                       user    from  to",
                "mx        this machine, a stranger, a stranger (IPv6)  nobody  any   elsewhere             550 5.7.1",
                "mx        any                                          nobody  any   jon@here.example      "
                "deliver (maildir) by mailbox",
                "mx        any                                          nobody  any   others @here.example  "
                "550 5.1.1 by mailbox",
                "mx        10.0.0.0/8                                   nobody  any   elsewhere             "
                "forward by forward",
            ],
        )

    def test_a_hundred_policies_are_tried_in_a_moment_and_what_had_no_room_is_counted(self) -> None:
        many = "".join(
            policy("forward", f'client = ["10.{number}.0.0/16"], sender = ["s{number}.example"]')
            + f'next_hop = "mx{number}.example"\nname = "p{number}"\n'
            for number in range(100)
        )
        began = time.process_time()
        found = trial(PUBLIC, SUBMISSION, MAILBOXES, many)
        self.assertLess(time.process_time() - began, 3.0)
        self.assertLessEqual(len(found.matrix.found), 1500)
        self.assertGreater(found.matrix.left_out, 0)
        self.assertEqual(found.problems, ())


class ExampleTests(SynchronousTestCase):
    def failed(self, before: str, *examples: str, behind: str = "") -> Sequence[str]:
        listed = "examples = [\n" + "".join(f"  {{ {example} }},\n" for example in examples) + "]\n"
        return problems(PUBLIC, PRIVATE, before, listed, behind)

    def test_what_is_to_become_of_a_mail(self) -> None:
        self.assertEqual(
            self.failed(
                MAILBOXES,
                'to = "jon@here.example", expect = "accept"',
                'to = "jon@here.example", expect = "deliver"',
                'to = "jon@here.example", expect = "deliver:maildir"',
                'to = "jon@here.example", expect = "250"',
                'to = "eve@here.example", expect = "reject"',
                'to = "eve@here.example", expect = "550"',
                'to = "eve@here.example", expect = "550 5.1.1"',
                'to = "bob@b.example", expect = "abstain"',
                'to = "bob@b.example", expect = "abstain", of = "policy", client = "10.1.2.3"',
                'to = "bob@b.example", expect = "forward:b.example", client = "10.1.2.3"',
                'to = "bob@b.example", expect = "forward", client = "unix", listener = "s", user = "jon"',
                'to = "jon@here.example", expect = "accept", of = "policy"',
                behind=policy("forward", 'client = ["10.0.0.0/8"]')
                + policy("forward", "authenticated = true").replace("[[policy]]", '[[policy]]\nname = "users"'),
            ),
            [],
        )

    def test_all_that_come_out_otherwise_are_told_each_at_its_line(self) -> None:
        found = self.failed(
            MAILBOXES,
            'to = "jon@here.example", expect = "reject"',
            'to = "eve@here.example", expect = "550 5.7.1"',
            'to = "jon@here.example", expect = "deliver"',
            'to = "jon@here.example", expect = "forward"',
            'to = "ann@c.example", expect = "forward:b.example", client = "10.0.0.1"',
            'to = "jon@here.example", expect = "deliver:mbox"',
            'to = "jon@here.example", expect = "hold"',
            'to = "jon@here.example", expect = "abstain"',
            'to = "jon@here.example", expect = "abstain", of = "policy"',
            'to = "bob@b.example", expect = "accept", of = "policy"',
            'to = "jon@here.example", expect = "accept", listener = "nowhere"',
            behind=policy("forward", 'client = ["10.0.0.0/8"]'),
        )
        self.assertEqual(
            [line.partition(": ")[0] for line in found], [f"x:{line}" for line in (16, 17, *range(19, 27))]
        )
        self.assertEqual(
            found[0],
            "x:16: policy.1.examples.1: jon@here.example from <> should be 'reject', but it is accepted: "
            "jon@here.example: agent maildir by mailbox",
        )
        self.assertIn("but it is 550 5.1.1 <eve@here.example>: user unknown by mailbox", found[1])
        self.assertIn("there is no listener 'nowhere'", found[-1])

    def test_an_example_brings_its_own_dns(self) -> None:
        own = 'to = "jon@here.example", from = "a@s.example"'
        checks = policy("sender-domain")
        known = 'dns = { "s.example MX" = ["10 mx.s.example"], "mx.s.example A" = ["192.0.2.5"] }'
        self.assertEqual(
            self.failed(
                checks,
                f'{own}, expect = "accept", {known}',
                f'{own}, expect = "550 5.7.27", dns = {{ "s.example MX" = ["0 ."] }}',
                f'{own}, expect = "550 5.1.8", dns = {{}}',
                f'{own}, expect = "delay", dns = {{ "s.example MX" = "servfail" }}',
                f'{own}, expect = "delay"',
                behind=MAILBOXES,
            ),
            [],
        )
        [found] = self.failed(checks, f'{own}, expect = "accept"', behind=MAILBOXES)
        self.assertTrue(
            found.endswith("'sender-domain' has asked for s.example MX, and the example has no 'dns'"), found
        )

    def test_an_example_brings_its_own_tables(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = Path(directory.name, "list")
        path.write_text("eve@here.example go away\n")
        rejects = f'[[policy]]\nuse = "reject"\nfile = "{path.resolve()}"\nlook_up = "sender"\n'
        self.assertEqual(
            self.failed(
                rejects,
                'to = "eve@here.example", expect = "abstain", of = "policy"',
                'from = "eve@here.example", to = "jon@here.example", expect = "reject"',
                'from = "ann@here.example", to = "jon@here.example", expect = "reject", '
                f'tables = {{ "{path.name}" = {{ "ann@here.example" = "no" }} }}',
                'from = "eve@here.example", to = "jon@here.example", expect = "accept", '
                f'tables = {{ "{path.name}" = {{}} }}',
                behind=MAILBOXES,
            ),
            [],
        )

    def test_a_message_is_examined_also_by_one_policy_alone(self) -> None:
        secret = 'to = "jon@here.example", message = "Secret: yes\\nSubject: x\\n\\nHi!\\n"'
        plain = 'to = "jon@here.example", message = "Subject: x\\n\\nHi!\\n"'
        self.assertEqual(
            self.failed(
                policy(f"{HERE}:HoldsSecrets"),
                f'{secret}, expect = "hold"',
                f'{secret}, expect = "hold", of = "policy"',
                f'{plain}, expect = "deliver"',
                f'{plain}, expect = "abstain", of = "policy"',
                behind=MAILBOXES,
            ),
            [],
        )

    def test_what_one_example_leaves_behind_is_gone_for_the_next(self) -> None:
        again = 'to = "jon@here.example", expect = "450 4.7.1"'
        self.assertEqual(self.failed(policy("greylist"), again, again, behind=MAILBOXES), [])

    def test_an_example_that_makes_no_sense_is_told_when_the_file_is_read(self) -> None:
        for example in (
            'to = "jon", expect = "accept"',
            'to = "jon@here.example", expect = "fine"',
            'to = "jon@here.example", expect = "accept", client = "here"',
            'to = "jon@here.example", expect = "accept", dns = { "a.example" = ["192.0.2.1"] }',
            'to = "jon@here.example", expect = "accept", dns = { "a.example A" = ["::1"] }',
            'to = "jon@here.example", expect = "accept", dns = { "a.example MX" = ["mx.example"] }',
            'to = "jon@here.example"',
        ):
            with self.assertRaisesRegex(Exception, "examples"):
                self.failed(MAILBOXES, example)
