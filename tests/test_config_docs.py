from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from relay.config.addresses import is_local
from relay.config.load import load
from relay.config.settings import Settings
from relay.policy.registry import names, option_model
from relay.trial import tried
from tests import config_reference

ETC = Path(__file__).parent.parent / "etc"
FILE = ETC / "relay.toml"


class ReferenceTests(SynchronousTestCase):
    def test_every_setting_stands_there_with_its_default_and_what_it_means(self) -> None:
        self.maxDiff = None
        self.assertEqual(
            config_reference.tables_in(config_reference.PAGE.read_text()),
            config_reference.tables(),
            "python -m tests.config_reference writes the tables anew",
        )


class EtcCase(SynchronousTestCase):
    def settings(self, text: str) -> Settings:
        return load(
            text,
            file="relay.toml",
            base=Path("/opt/relay/etc"),
            hostname="frogbog",
            user="ann",
            option_model=option_model,
            known=names,
        )


class ExampleTests(EtcCase):
    def setUp(self) -> None:
        self.text = (ETC / "examples/mx-and-submission.toml").read_text()
        self.read = self.settings(self.text)

    def test_every_example_is_right_and_no_open_relay(self) -> None:
        examples = sorted((ETC / "examples").iterdir())
        self.assertTrue(examples)
        for example in examples:
            for text in (
                example.read_text(),
                re.sub("^# (next_hop =)", r"\1", example.read_text(), flags=re.MULTILINE),
            ):
                trial = tried(self.settings(text), file=example.name)
                self.assertEqual((trial.problems, trial.warnings), ((), ()), example.name)

    def test_people_log_in_where_it_is_encrypted_and_nowhere_else(self) -> None:
        self.assertEqual(
            [(str(each.address), each.protocol, each.tls, each.without) for each in self.read.listener],
            [
                ("[::]:25", "smtp", "offer", ("AUTH",)),
                ("[::]:587", "submission", "require", ()),
                ("[::]:465", "submission", "implicit", ()),
                ("unix:/run/relay/lmtp.sock", "lmtp", "none", ()),
            ],
        )

    def test_mail_for_the_world_comes_from_people_and_programs_of_ours(self) -> None:
        self.assertEqual(
            [(each.use, each.when.authenticated, each.when.listener) for each in self.read.policy],
            [
                ("alias", None, ()),
                ("mailbox", None, ()),
                ("forward", True, ()),
                ("forward", None, ("local",)),
                ("reject", None, ()),
            ],
        )

    def test_it_writes_where_the_unit_lets_it(self) -> None:
        unit = (ETC / "relay.service").read_text()
        for word, folder in (("State", "/var/lib/"), ("Runtime", "/run/"), ("Logs", "/var/log/")):
            self.assertIn(f"\n{word}Directory=relay\n", unit)
            self.text = self.text.replace(f"{folder}relay/", "WRITTEN/")
        written = re.findall(r'^(?:path|socket|mail|own|passwords|directory) *= "(.*)"', self.text, re.MULTILINE)
        self.assertEqual(len(written), 6)
        self.assertTrue(all(path.startswith("WRITTEN/") for path in written), written)


class TheFileThatComesWithTheRelayTests(EtcCase):
    def setUp(self) -> None:
        self.text = FILE.read_text()

    def test_it_is_right(self) -> None:
        self.settings(self.text)

    def test_nobody_else_can_connect(self) -> None:
        listeners = self.settings(self.text).listener
        self.assertEqual([str(listener.address) for listener in listeners], ["127.0.0.1:2525", "[::1]:2525"])
        for listener in listeners:
            self.assertTrue(is_local(listener.address))
            self.assertEqual(listener.newlines, "lenient")

    def test_a_first_try_sends_nothing_to_the_world(self) -> None:
        policies = self.settings(self.text).policy
        self.assertEqual([policy.use for policy in policies], ["mailbox", "console", "reject"])

    def test_only_this_machine_is_relayed_for(self) -> None:
        elsewhere = self.settings(self.text).policy[1]
        self.assertEqual([str(network) for network in elsewhere.when.client], ["127.0.0.0/8", "::1/128"])

    def test_jon_and_who_starts_it_have_mailboxes_here(self) -> None:
        options: Any = self.settings(self.text).policy[0].options
        self.assertEqual(set(options.domains), {"localhost", "frogbog"})
        self.assertEqual(set(options.users), {"jon", "ann"})

    def test_what_it_writes_is_beside_it(self) -> None:
        settings = self.settings(self.text)
        options: Any = settings.policy[0].options
        written = [settings.spool.path, settings.control.socket, options.directory]
        self.assertEqual(
            [str(path) for path in written],
            ["/opt/relay/var/spool", "/opt/relay/var/control.sock", "/opt/relay/var/mail"],
        )

    def test_what_is_ready_in_comments_is_right_too(self) -> None:
        before, _, after = self.text.partition("put this in its place")
        block, _, rest = after.partition("\n\n")
        meant = re.sub(r"^# ?", "", block.partition("\n")[2], flags=re.MULTILINE)
        without_console = re.sub(r'\[\[policy\]\]\nname = "elsewhere"\n.*?\n\n', "", before, flags=re.DOTALL)
        settings = self.settings(f"{without_console}\n{meant.replace('# next_hop', 'next_hop')}\n\n{rest}")
        self.assertEqual([policy.use for policy in settings.policy], ["mailbox", "forward", "reject"])
        self.assertEqual(settings.policy[1].name, "elsewhere")

        settings = self.settings(self.text.replace("# hostname =", "hostname ="))
        self.assertEqual(settings.hostname, "mx1.example.org")
