from __future__ import annotations

import json
import os
import tempfile
from datetime import timedelta
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from relay.cli.check import check
from relay.config.file import settings_of
from tests.config_options import MODELS
from tests.test_tls import NOW, issue, octets

CERTIFICATES_AND_PASSWORDS = ["listener.1.certificates.1", "auth.passwords"]


class CheckTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.file = Path(directory.name, "relay.toml")

    def check(self, *arguments: str) -> Result:
        return CliRunner().invoke(check, arguments)

    def test_a_configuration_that_is_right_is_told_in_a_line_behind_who_may_do_what(self) -> None:
        self.file.write_text('[[listener]]\naddress = "127.0.0.1:2525"\n[[policy]]\nuse = "reject"\n')
        result = self.check(str(self.file))
        self.assertEqual(
            (result.exit_code, result.stdout, result.stderr),
            (
                0,
                "listener        client        user    from  to\n"
                "127.0.0.1:2525  this machine  nobody  any   elsewhere  550 5.7.1 by reject\n"
                f"{self.file}: 1 listener, 1 policy, no problems\n",
                "",
            ),
        )
        result = self.check("--brief", str(self.file))
        self.assertEqual((result.exit_code, result.output), (0, ""))

    def test_every_problem_is_a_line_on_standard_error(self) -> None:
        self.file.write_text('x = 1\n[[policy]]\nuse = "rejct"\n')
        result = self.check(str(self.file))
        self.assertEqual((result.exit_code, result.stdout), (os.EX_CONFIG, ""))
        self.assertEqual(
            result.stderr,
            f"{self.file}:1: x: unknown key\n{self.file}:3: policy.1.use: unknown policy, did you mean 'reject'?\n",
        )

    def test_a_misspelt_option_of_a_policy_that_comes_with_the_relay(self) -> None:
        self.file.write_text('[[policy]]\nuse = "reject"\n\n[[policy]]\nuse = "mailbox"\ndomians = ["a"]\n')
        result = self.check(str(self.file))
        self.assertEqual(result.exit_code, os.EX_CONFIG)
        self.assertIn(f"{self.file}:6: policy.2.domians: unknown key, did you mean 'domains'?\n", result.stderr)

    def test_an_address_to_send_from_that_is_none_and_a_name_that_is_none(self) -> None:
        for line, problem in (
            ('source = "bulk.example.org"', "source: 'bulk.example.org' should be an IP address such as"),
            (
                'source = ["192.0.2.1", "192.0.2.2"]',
                "source: should have one IPv4 address and one IPv6 address at most",
            ),
            ('hello = "[192.0.2.1]"', "hello: should be a name, not an address"),
        ):
            self.file.write_text(f'[[policy]]\nuse = "forward"\n{line}\n')
            result = self.check(str(self.file))
            self.assertEqual(result.exit_code, os.EX_CONFIG)
            self.assertIn(f"{self.file}:3: policy.1.{problem}", result.stderr)

    def test_a_file_that_is_not_there_is_a_problem_like_others(self) -> None:
        result = self.check(str(self.file))
        self.assertEqual(
            (result.exit_code, result.stderr),
            (os.EX_CONFIG, f"{self.file}: cannot be read: No such file or directory\n"),
        )

    def test_a_file_that_is_no_text_is_a_problem_like_others(self) -> None:
        self.file.write_bytes(b"\n\n\xff\xfe")
        result = self.check(str(self.file))
        self.assertEqual((result.exit_code, result.stderr), (os.EX_CONFIG, f"{self.file}:3: this is not UTF-8\n"))

    def test_no_file_is_a_question(self) -> None:
        result = self.check()
        self.assertEqual(result.exit_code, 2)
        self.assertIn("which configuration?", result.stderr)

    def test_the_schema_has_the_policies_of_this_machine(self) -> None:
        result = self.check("--schema")
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        policies = json.loads(result.stdout)["properties"]["policy"]["items"]["anyOf"]
        self.assertLessEqual({"mailbox", "reject", "forward"}, {policy["title"] for policy in policies})

    def test_paths_are_relative_to_the_file_and_not_to_where_one_stands(self) -> None:
        self.file.write_text('[spool]\npath = "spool"\n')
        link = self.file.with_name("link.toml")
        link.symlink_to(self.file.resolve())
        for file in (self.file, link):
            settings = settings_of(str(file), MODELS.get, lambda: MODELS)
            self.assertEqual(settings.spool.path, self.file.resolve().parent / "spool")

    def write_listener(self, *lines: str) -> None:
        policy = ["[[policy]]", 'use = "discard"', ""]
        self.file.write_text("\n".join(["[[listener]]", 'address = "127.0.0.1:2525"', *lines, *policy]))

    def test_certificates_are_read_and_none_is_made(self) -> None:
        self.write_listener('tls = "offer"')
        self.assertEqual(self.check(str(self.file)).exit_code, 0)
        self.assertEqual([path.name for path in self.file.parent.iterdir()], ["relay.toml"])
        self.write_listener('tls = "offer"', 'certificates = ["absent.pem"]')
        result = self.check(str(self.file))
        self.assertEqual((result.exit_code, result.stdout), (os.EX_CONFIG, ""))
        absent = self.file.resolve().with_name("absent.pem")
        said = f"{self.file}:4: listener.1.certificates.1: {absent}: it cannot be read: No such file or directory\n"
        self.assertEqual(result.stderr, said)

    def test_passwords_are_read_too_and_all_problems_are_said_at_once(self) -> None:
        self.write_listener('tls = "offer"', 'certificates = ["absent.pem"]', "[auth]", 'passwords = "users"')
        result = self.check(str(self.file))
        self.assertEqual((result.exit_code, result.stdout), (os.EX_CONFIG, ""))
        self.assertEqual([line.split(": ")[1] for line in result.stderr.splitlines()], CERTIFICATES_AND_PASSWORDS)

    def test_an_open_relay_is_a_problem_and_a_warning_where_it_is_meant(self) -> None:
        text = '[[listener]]\naddress = "0.0.0.0:25"\n[[policy]]\nuse = "forward"\n'
        self.file.write_text(text)
        result = self.check(str(self.file))
        self.assertEqual(result.exit_code, os.EX_CONFIG)
        self.assertTrue(result.stderr.startswith(f"{self.file}:3: policy.1: anybody who"), result.stderr)
        self.assertIn("forward by forward", result.stdout)
        self.file.write_text(f'open_relay = "I mean it"\n{text}')
        result = self.check(str(self.file))
        self.assertEqual(result.exit_code, 0)
        self.assertTrue(result.stdout.endswith(f"{self.file}: 1 listener, 1 policy, no problems, 1 warning\n"))
        self.assertTrue(result.stderr.startswith(f"warning: {self.file}:4: policy.1: anybody who"), result.stderr)

    def test_an_example_that_comes_out_otherwise_is_a_problem_with_its_line(self) -> None:
        self.file.write_text(
            '[[listener]]\naddress = "127.0.0.1:2525"\n[[policy]]\nuse = "reject"\nexamples = [\n'
            '  { to = "a@b.example", expect = "reject" },\n  { to = "c@b.example", expect = "accept" },\n]\n'
        )
        result = self.check(str(self.file))
        self.assertEqual(result.exit_code, os.EX_CONFIG)
        self.assertRegex(
            result.stderr,
            rf"^{self.file}:7: policy\.1\.examples\.2: c@b\.example from <> should be 'accept', but it is",
        )
        self.assertEqual(len(result.stderr.splitlines()), 1)

    def test_a_certificate_that_has_expired_is_a_warning(self) -> None:
        expired = issue("mx.test", expires=NOW - timedelta(days=1))
        self.file.with_name("old.pem").write_bytes(octets(expired))
        self.file.with_name("old.pem").chmod(0o600)
        self.write_listener('tls = "offer"', 'certificates = ["old.pem"]')
        result = self.check(str(self.file))
        self.assertEqual(result.exit_code, 0)
        self.assertRegex(result.stderr, r"^warning: .*/old\.pem: this certificate has expired\n$")

    def test_what_a_policy_needs_is_read_as_the_relay_would(self) -> None:
        self.file.write_text(
            '[[policy]]\nuse = "mailbox"\ndomains = ["a.test"]\ndirectory = "mail"\nusers = { file = "absent" }\n'
        )
        result = self.check(str(self.file))
        self.assertEqual((result.exit_code, result.stdout), (os.EX_CONFIG, ""))
        absent = self.file.resolve().with_name("absent")
        self.assertEqual(result.stderr, f"{self.file}:5: policy.1.users: {absent}: No such file or directory\n")
        self.assertEqual([path.name for path in self.file.parent.iterdir()], ["relay.toml"])

    def test_a_user_whom_this_machine_does_not_have_is_a_problem(self) -> None:
        """The relay would not start."""
        self.file.write_text('[process]\nuser = "nobody-of-this-name"\ngroup = "nor-of-this"\n')
        result = self.check(str(self.file))
        self.assertEqual(result.exit_code, os.EX_CONFIG)
        self.assertEqual(
            result.stderr,
            f"{self.file}:2: process.user: there is no user 'nobody-of-this-name'\n"
            f"{self.file}:3: process.group: there is no group 'nor-of-this'\n",
        )

    def test_a_login_whose_secret_cannot_be_had_now_is_a_warning(self) -> None:
        self.file.write_text('[[login]]\nname = "provider"\nuser = "us"\npassword_file = "secret"\n')
        secret = self.file.with_name("secret")
        result = self.check(str(self.file))
        self.assertEqual(result.exit_code, 0)
        self.assertIn(f"warning: {self.file}:1: login.1: {secret}: it cannot be read: No such file", result.stderr)
        secret.write_text("word\n")
        secret.chmod(0o644)
        self.assertIn("others may read or write it", self.check(str(self.file)).stderr)
        secret.chmod(0o600)
        self.assertEqual(self.check(str(self.file)).stderr, "")

    def test_a_suppression_list_that_is_something_else_is_a_problem(self) -> None:
        other = self.file.with_name("list")
        other.write_text("hello\n")
        self.file.write_text('[suppression]\nkeep = true\npath = "list"\n')
        result = self.check(str(self.file))
        self.assertEqual(result.exit_code, os.EX_CONFIG)
        self.assertTrue(result.stderr.startswith(f"{self.file}:3: suppression.path: it is no suppression list"))
        self.assertEqual(other.read_text(), "hello\n")

    def test_whom_it_would_believe_when_it_connects_to_others_is_read_too(self) -> None:
        self.file.write_text('[delivery.tls]\nauthorities = "absent.pem"\n')
        result = self.check(str(self.file))
        self.assertEqual((result.exit_code, result.stdout), (os.EX_CONFIG, ""))
        self.assertTrue(result.stderr.startswith(f"{self.file}:2: delivery.tls.authorities: "), result.stderr)
