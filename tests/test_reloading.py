"""Another configuration for a relay that runs: what changes, what stays, and what is refused."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import weakref
from pathlib import Path
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import settings as fewer
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from relay import assembly
from relay.config.load import load
from relay.config.restarts import restarts
from relay.config.settings import Settings
from relay.control.reloading import Reloaded
from relay.delivery.destination import Destinations, Limits, Particular
from relay.delivery.health import Rate
from relay.encryption import Encryption
from relay.net.threads import AtOnce, Stop, Stopped
from relay.policy.registry import option_model
from relay.policy.tables import PairsTable, Tables
from relay.reloading import Checked, Code, Reloading, check_apart
from relay.testing.world import MailWorld

MAILBOXES = '[[policy]]\nuse = "mailbox"\ndomains = ["here.example"]\nusers = ["jon"]\ndirectory = "mail"\n'
LISTENER = '[[listener]]\nname = "mx"\naddress = "192.0.2.1:25"\n'
FORWARD = '[[policy]]\nuse = "forward"\nwhen = { client = ["127.0.0.0/8"] }\n'
CONFIGURATION = LISTENER + MAILBOXES + FORWARD
MESSAGE = b"Subject: hello\r\n\r\nHi!\r\n"
STRANGER = "198.51.100.7"


def settings(text: str) -> Settings:
    return load(text, file="relay.toml", base=Path("/world"), hostname="mx.test", user="ann", option_model=option_model)


class GenerationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = MailWorld(CONFIGURATION)

    def switch(self, text: str) -> None:
        relay = self.world.relay
        relay.adopt(relay.prepare(settings(text), file="relay.toml"))

    def answers(self, recipient: str, client: str = STRANGER) -> str:
        conversation = self.world.connect(client)
        conversation.say("EHLO client.test")
        conversation.say("MAIL FROM:<bob@client.test>")
        return conversation.say(f"RCPT TO:<{recipient}>")[-1]

    def test_a_session_ends_with_the_policies_that_it_began_with(self) -> None:
        before = self.world.connect(STRANGER)
        before.say("EHLO client.test")
        self.switch(CONFIGURATION.replace('"jon"', '"eve"'))
        before.say("MAIL FROM:<bob@client.test>")
        self.assertTrue(before.say("RCPT TO:<jon@here.example>")[-1].startswith("250"))
        before.say("DATA")
        before.send(MESSAGE + b".\r\n")
        self.assertTrue(before.replies()[-1].startswith("250"))
        self.assertTrue(self.answers("jon@here.example").startswith("550 5.1.1"))
        self.assertTrue(self.answers("eve@here.example").startswith("250"))
        self.world.settle()
        self.assertEqual([len(mails) for mails in self.world.mailboxes.values()], [1])

    def test_a_session_ends_with_the_limits_that_it_began_with(self) -> None:
        before = self.world.connect(STRANGER)
        self.switch('[limits]\nrecipients = 123\nmessage = "1 MiB"\n' + CONFIGURATION)
        self.assertIn("250-LIMITS MAILMAX=1000 RCPTMAX=1000", before.say("EHLO client.test"))
        after = self.world.connect(STRANGER).say("EHLO client.test")
        self.assertIn("250-LIMITS MAILMAX=1000 RCPTMAX=123", after)
        self.assertIn("250-SIZE 1048576", after)

    def test_who_is_connected_stays_counted(self) -> None:
        connected = [self.world.connect(STRANGER) for _ in range(3)]
        self.switch("[limits]\nconnections_per_address = 3\n" + CONFIGURATION)
        self.assertTrue(self.world.connect(STRANGER).greeting[0].startswith("421 4.7.0"))
        connected[0].hang_up()
        self.assertTrue(
            self.world.connect(STRANGER).greeting[0].startswith("421 4.7.0"), "the one that was refused stays"
        )

    def test_who_was_wrong_about_a_password_stays_counted(self) -> None:
        attempts = self.world.relay.permanent.limiter.session(STRANGER)
        attempts.begin()
        attempts.failed()
        self.switch("[limits]\nauth_failures_per_address = 1\n" + CONFIGURATION)
        self.assertFalse(self.world.relay.permanent.limiter.session(STRANGER).may_try)

    def test_mail_that_could_not_be_delivered_takes_the_way_of_the_new_configuration(self) -> None:
        self.world.names["dead.example"] = {"MX": [(10, "mx.dead.example")]}
        self.world.names["mx.dead.example"] = {"A": ["198.51.100.99"]}
        self.world.send("ann@here.example", "bob@dead.example", MESSAGE)
        self.world.settle()
        hub = self.world.exchange("x.example", "198.51.100.26", name="hub.example")
        self.switch(LISTENER + MAILBOXES + FORWARD + 'next_hop = "hub.example"\n')
        self.world.pass_time(3600)
        self.assertEqual([mail.recipients for mail in hub.messages], [("bob@dead.example",)])

    def test_retries_follow_the_new_schedule(self) -> None:
        self.world.names["dead.example"] = {"MX": [(10, "mx.dead.example")]}
        self.world.names["mx.dead.example"] = {"A": ["198.51.100.99"]}
        self.switch('[delivery.retry]\nfirst = "1s"\nmost = "2s"\ngive_up = "10s"\n' + CONFIGURATION)
        self.world.send("ann@here.example", "bob@dead.example", MESSAGE)
        self.world.pass_time(60)
        self.assertIn("failed", [event.what for event in self.world.log.events])

    def test_a_policy_that_cannot_be_made_changes_nothing(self) -> None:
        relay = self.world.relay
        before, doorway = relay.generation, relay.listeners[0].factory.doorway
        broken = (
            CONFIGURATION
            + '[[policy]]\nuse = "mailbox"\ndomains = ["b.example"]\ndirectory = "m"\nusers = { file = "no" }\n'
        )
        with self.assertRaisesRegex(Exception, "No such file"):
            relay.prepare(settings(broken), file="relay.toml")
        self.assertIs(relay.generation, before)
        self.assertIs(relay.listeners[0].factory.doorway, doorway)

    def test_a_generation_that_nobody_has_any_more_is_let_go(self) -> None:
        chains = []
        for _ in range(4):
            self.switch(CONFIGURATION)
            chains.append(weakref.ref(self.world.relay.chain))
            if len(chains) == 2:
                client = self.world.connect(STRANGER)
        gc.collect()
        self.assertEqual([chain() is None for chain in chains], [True, False, True, False])
        client.hang_up()

    def test_policies_of_a_generation_that_has_gone_keep_no_threads(self) -> None:
        spared: list[object] = []
        self.patch(assembly, "spare", lambda policies: spared.extend(policies))
        before = [station.policy for station in self.world.relay.chain.stations]
        self.switch(CONFIGURATION)
        self.assertEqual(spared, before)

    def test_tables_that_have_not_changed_are_not_read_again(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        file = Path(directory.name, "list")
        file.write_text("one@here.example no\n")
        table = f'[[table]]\nname = "t"\nfile = "{file}"\n'
        rejects = '[[policy]]\nuse = "reject"\ntable = "t"\n'
        text = LISTENER + table + rejects + MAILBOXES.replace('"jon"', '"jon", "one"')
        self.switch(text)
        before = self.world.relay.generation.tables
        self.patch(PairsTable, "_parse", lambda *_: self.fail("it is read again"))
        self.switch(text + FORWARD)
        self.assertTrue(self.answers("one@here.example").startswith("550 5.7.1"))
        self.assertIsNot(self.world.relay.generation.tables, before)

    def test_a_table_that_has_changed_is_read_again_with_the_checks_of_its_new_users(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        file = Path(directory.name, "list")
        file.write_text("one@here.example no\n")
        table = f'[[table]]\nname = "t"\nfile = "{file}"\n'
        self.switch(LISTENER + table + '[[policy]]\nuse = "reject"\ntable = "t"\n' + MAILBOXES)
        with self.assertRaisesRegex(Exception, "should be a name without a domain"):
            self.switch(LISTENER + table + MAILBOXES.replace('["jon"]', '{ table = "t" }'))
        file.write_text("jon\n")
        self.switch(LISTENER + table + MAILBOXES.replace('["jon"]', '{ table = "t" }'))
        self.assertTrue(self.answers("jon@here.example").startswith("250"))
        file.write_text("ann@here.example\n")
        self.world.pass_time(2)
        self.assertTrue(self.answers("jon@here.example").startswith("451"))

    def test_what_policies_keep_is_there_for_the_next_generation(self) -> None:
        greylisted = LISTENER + '[[policy]]\nuse = "greylist"\n' + MAILBOXES
        self.switch(greylisted)
        self.assertTrue(self.answers("jon@here.example").startswith("450 4.7.1"))
        self.switch(greylisted + FORWARD)
        self.world.pass_time(400)
        self.assertTrue(self.answers("jon@here.example").startswith("250"))

    @fewer(max_examples=15, deadline=None)
    @given(st.lists(st.sampled_from(["switch", "send", "wait"]), min_size=1, max_size=12))
    def test_whenever_it_happens_nothing_is_lost(self, steps: list[str]) -> None:
        self.world = MailWorld(CONFIGURATION)
        exchange = self.world.exchange("b.example", "198.51.100.25")
        sent = 0
        for number, step in enumerate(steps):
            match step:
                case "switch":
                    self.switch(f"[limits]\nrecipients = {200 + number}\n{CONFIGURATION}")
                case "send":
                    self.world.send("ann@here.example", "bob@b.example", MESSAGE)
                    sent += 1
                case _:
                    self.world.pass_time(7)
        self.world.pass_time(600)
        self.assertEqual(len(exchange.messages), sent)


class DestinationTests(SynchronousTestCase):
    def test_what_was_learnt_stays_and_limits_are_the_new_ones(self) -> None:
        destinations = Destinations(Limits(particular={"a.example": Particular(rate=Rate(1, 60))}))
        for name in "a.example", "b.example":
            destinations.pause(name, 0.0)
        destinations.adopt(Limits(destination=5, first=4, particular={"b.example": Particular(1, Rate(60, 60))}), 1.0)
        found = {each.name: each for each in destinations.conditions(1.0)}
        self.assertEqual(
            [(each.limit, each.most, each.rate_left) for each in found.values()], [(4, 5, None), (1, 1, 6)]
        )
        self.assertEqual({each.paused_by for each in found.values()}, {"operator"})


class RestartTests(SynchronousTestCase):
    def keys(self, changed: str, text: str = CONFIGURATION) -> list[str]:
        read = settings(changed)
        found = restarts(settings(text), read)
        return [read.problem("x", each.path, each.text).key for each in found]

    def test_what_takes_a_restart_is_named(self) -> None:
        for changed, keys in (
            (CONFIGURATION, []),
            ('hostname = "other.test"\n' + CONFIGURATION, ["hostname"]),
            ('[spool]\npath = "x"\nlarge = "1 MiB"\n' + CONFIGURATION, ["spool.path", "spool.large"]),
            ('[dns]\nservers = ["127.0.0.1"]\n' + CONFIGURATION, ["dns.servers"]),
            (
                '[limits]\nmemory = "1 MiB"\nbacklog = 5\nhops = 7\n' + CONFIGURATION,
                ["limits.memory", "limits.backlog"],
            ),
            (CONFIGURATION.replace(":25", ":26"), ["listener.1.address"]),
            (CONFIGURATION.replace('"mx"', '"front"'), ["listener.1", "listener"]),
            (LISTENER.replace("mx", "n").replace(":25", ":26") + CONFIGURATION, ["listener.1"]),
            (MAILBOXES, ["listener"]),
        ):
            self.assertEqual(self.keys(changed), keys, changed)

    def test_everything_else_may_change(self) -> None:
        for changed in (
            'greeting = "hi"\ntrusted = []\n[delivery.retry]\nfirst = "1s"\n[limits]\nrecipients = 500\n'
            + CONFIGURATION,
            LISTENER + 'newlines = "strict"\nproxy = ["192.0.2.0/24"]\n' + FORWARD,
            LISTENER + 'tls = "offer"\n' + MAILBOXES,
        ):
            self.assertEqual(self.keys(changed), [], changed)


class SlowTables(Tables):
    """Tables that have changed, and are large."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.read: Deferred[None] = Deferred()

    async def refresh(self) -> None:
        await self.read


class ReloadingTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.file = Path(directory.name, "relay.toml")
        self.said = Checked()
        self.checks = 0
        self.during: Any = lambda: None
        self.write(CONFIGURATION)
        self.world = MailWorld('hostname = "mx.test"\n' + CONFIGURATION)
        # Paths are relative to the file.
        generation = self.world.relay.generation
        read = self.read(self.file.read_text())
        self.world.relay.generation = evolve(generation, settings=read)
        encryption = Encryption(read, self.world.time, file="x")
        self.reloading = Reloading(
            self.world.relay, encryption, self.world.time, AtOnce(), file=str(self.file), check=self.check
        )

    def read(self, text: str) -> Settings:
        return load(
            text, file="x", base=self.file.resolve().parent, hostname="mx.test", user="ann", option_model=option_model
        )

    def write(self, text: str) -> None:
        self.file.write_text('hostname = "mx.test"\n' + text)

    def check(self, file: str, stop: Stop) -> Checked:
        self.checks += 1
        self.during()
        return self.said

    def reload(self) -> Reloaded:
        said: Reloaded = self.successResultOf(Deferred.fromCoroutine(self.reloading()))
        return said

    def test_it_is_in_force_and_its_digest_is_told(self) -> None:
        before = self.reloading.in_force
        self.world.clock.advance(5)
        self.write(CONFIGURATION.replace("jon", "eve"))
        said = self.reload()
        self.assertEqual((said.done, said.problems, said.digest), (True, (), self.reloading.in_force.digest))
        self.assertNotEqual(said.digest, before.digest)
        self.assertEqual(self.reloading.in_force.since - before.since, 5)
        self.assertEqual(self.world.relay.settings.policy[1 - 1].options.users, ("eve",))  # type: ignore[attr-defined]

    def refused(self, *problems: str) -> None:
        before, generation = self.reloading.in_force, self.world.relay.generation
        said = self.reload()
        self.assertFalse(said.done)
        for found, wanted in zip(said.problems, problems, strict=True):
            self.assertIn(wanted, found)
        self.assertIs(self.world.relay.generation, generation)
        self.assertEqual((self.reloading.in_force, said.digest), (before, before.digest))

    def test_what_the_check_says_is_passed_on(self) -> None:
        self.said = Checked(("one", "two"), ("careful",))
        self.refused("one", "two")

    def test_what_takes_a_restart_is_refused(self) -> None:
        self.write('[spool]\npath = "x"\n' + CONFIGURATION.replace("jon", "eve"))
        self.refused("spool.path: has changed, and that takes a restart")

    def test_a_file_that_changes_while_it_is_checked_is_refused(self) -> None:
        self.during = lambda: self.write(CONFIGURATION.replace("jon", "eve"))
        self.refused("has changed while it was checked")

    def test_a_file_that_is_gone_is_refused(self) -> None:
        self.during = self.file.unlink
        self.refused("cannot be read")

    def test_a_mistake_of_ours_changes_nothing(self) -> None:
        def broken(*_: object, **__: object) -> Any:
            raise RuntimeError("a mistake")

        self.patch(type(self.world.relay), "prepare", broken)
        self.refused("an internal error")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_after_the_relay_has_been_told_to_stop_nothing_changes(self) -> None:
        self.during = self.reloading.stop
        self.refused("the relay stops")
        self.refused("the relay stops")
        self.assertEqual(self.checks, 1)

    def slow_tables(self) -> Deferred[None]:
        """The tables of before have changed, and are read until this has a result."""
        tables = SlowTables((), self.world.time)
        self.world.relay.generation = evolve(self.world.relay.generation, tables=tables)
        return tables.read

    def test_it_waits_for_tables_that_have_changed_to_be_read_elsewhere(self) -> None:
        read, before = self.slow_tables(), self.reloading.in_force
        self.write(CONFIGURATION.replace("jon", "eve"))
        reloading = Deferred.fromCoroutine(self.reloading())
        self.assertNoResult(reloading)
        self.assertIs(self.reloading.in_force, before)
        read.callback(None)
        self.assertTrue(self.successResultOf(reloading).done)

    def test_a_relay_that_is_told_to_stop_while_they_are_read_changes_nothing(self) -> None:
        read, generation = self.slow_tables(), self.world.relay.generation
        reloading = Deferred.fromCoroutine(self.reloading())
        self.reloading.stop()
        read.callback(None)
        self.assertEqual(self.successResultOf(reloading).problems, ("the relay stops",))
        self.assertIs(self.world.relay.generation, generation)

    def test_certificates_are_made_anew_only_where_something_about_them_has_changed(self) -> None:
        before = self.reloading.encryption
        self.reload()
        self.assertIs(self.reloading.encryption, before)
        self.write(LISTENER + 'tls = "offer"\n' + MAILBOXES)
        self.assertTrue(self.reload().done)
        self.assertIsNot(self.reloading.encryption, before)
        self.addCleanup(self.reloading.encryption.stop)
        self.assertIsNotNone(self.world.relay.listeners[0].factory.doorway.tls)

    def test_certificates_are_read_again_each_time_also_where_the_file_cannot_be_used(self) -> None:
        reread: list[bool] = []
        self.patch(Encryption, "reread", lambda self, *, aloud=False: reread.append(aloud))
        self.reload()
        self.said = Checked(("one",))
        self.reload()
        self.assertEqual(reread, [True, True])
        self.reloading.stop()
        self.reload()
        self.assertEqual(reread, [True, True])

    def test_what_goes_wrong_behind_the_switch_is_a_warning_of_a_reload_that_is_done(self) -> None:
        def broken(*_: object, **__: object) -> Any:
            raise OSError("a mistake")

        others: list[str] = []
        for patched, what in (
            (lambda: self.patch(self.reloading, "_adopted", broken), "'relayctl' may speak of the one before"),
            (
                lambda: self.patch(self.world.relay.permanent.dispatcher, "adopt", broken),
                "not everything has taken it up",
            ),
        ):
            self.reloading._adopted = lambda: others.append("adopted")
            patched()
            user = f"eve{len(others)}"
            self.write(CONFIGURATION.replace("jon", user))
            said = self.reload()
            self.assertEqual((said.done, said.problems), (True, ()))
            self.assertEqual([what in warning for warning in said.warnings], [True])
            self.assertEqual(self.world.relay.settings.policy[0].options.users, (user,))  # type: ignore[attr-defined]
            self.assertEqual(self.reloading.in_force.digest, said.digest)
            self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.assertEqual(others, ["adopted"])

    def test_code_that_has_changed_since_it_was_imported_is_told(self) -> None:
        path = self.file.with_name("some_site_policy.py")
        path.write_text("x = 1\n")
        module = type(os)("some_site_policy")
        module.__file__ = str(path)
        code = Code()
        self.assertEqual(code.changed(iter([module])), ())
        self.assertEqual(code.changed(iter([module])), ())
        path.write_text("x = 12\n")
        for _ in range(2):
            [told] = code.changed(iter([module]))
            self.assertIn("restart the relay to use it", told)

    def test_so_is_that_of_a_policy_that_has_come_since_and_that_of_one_that_blocks(self) -> None:
        self.patch(sys, "path", [str(self.file.parent), *sys.path])
        text = "from relay.policy.reject import RejectAll\nclass Mine(RejectAll):\n    blocking = {blocks}\n"
        modules = {f"some_site_policy_{blocks}": text.format(blocks=blocks) for blocks in (False, True)}
        for name, code in modules.items():
            self.file.with_name(f"{name}.py").write_text(code)
            self.addCleanup(sys.modules.pop, name, None)
        self.write(CONFIGURATION + "".join(f'[[policy]]\nuse = "{name}:Mine"\n' for name in modules))
        self.assertEqual(self.reload().warnings, ())
        for name, code in modules.items():
            self.file.with_name(f"{name}.py").write_text(code + "\n")
        told = self.reload().warnings
        self.assertEqual(["some_site_policy_False" in told[0], "some_site_policy_True" in told[1]], [True, True])


class CheckApartTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.file = Path(directory.name, "relay.toml")

    def check(self, text: str) -> Checked:
        self.file.write_text(text)
        return check_apart(str(self.file), Stop())

    def test_all_that_is_wrong_is_said(self) -> None:
        self.assertEqual(self.check('hostname = "mx.test"\n'), Checked())
        found = self.check('x = 1\n[[listener]]\naddress = "0.0.0.0:25"\n[[policy]]\nuse = "forward"\n')
        self.assertEqual(found.problems, (f"{self.file}:1: x: unknown key",))
        found = self.check('hostname = "mx.test"\n[[listener]]\naddress = "0.0.0.0:25"\n[[policy]]\nuse = "forward"\n')
        self.assertIn("policy.1: anybody who connects", found.problems[0])

    def test_it_ends_when_nobody_waits_for_it(self) -> None:
        self.file.write_text('hostname = "mx.test"\n')
        fifo = self.file.with_name("fifo")
        os.mkfifo(fifo)
        stop = Stop()
        stop.say()
        with self.assertRaises(Stopped):
            check_apart(str(fifo), stop)

    def test_it_has_the_modules_of_this_process(self) -> None:
        self.file.with_name("only_here.py").write_text(
            "from relay.policy.reject import RejectAll\nclass Mine(RejectAll):\n    pass\n"
        )
        sys.path.append(str(self.file.parent))
        self.addCleanup(sys.path.remove, str(self.file.parent))
        self.assertEqual(self.check('hostname = "mx.test"\n[[policy]]\nuse = "only_here:Mine"\n').problems, ())
