"""Who we are at hosts that ask: what the configuration says of it, and what is read of files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from twisted.trial.unittest import SynchronousTestCase

from relay.config.errors import ConfigurationError
from relay.config.load import load
from relay.config.logins import LoginSettings, missing
from relay.config.settings import Settings
from relay.net.logins import Logins, NoLogin
from relay.policy.registry import option_model
from relay.smtp.sasl_client import Password, Token


def settings(text: str, base: str = "/etc/relay") -> Settings:
    return load(text, file="relay.toml", base=Path(base), hostname="mx.test", user="ann", option_model=option_model)


class SettingsTests(SynchronousTestCase):
    def test_a_login_is_a_name_a_user_and_one_secret(self) -> None:
        read = settings('[[login]]\nname = "a"\nuser = "ann"\npassword_file = "secret"\n')
        self.assertEqual(read.login[0].password_file, Path("/etc/relay/secret"))
        for wrong in (
            {},
            {"password": ""},
            {"password": "a\nb"},
            {"password": "x", "password_file": "y"},
            {"password_file": "x", "token_file": "y"},
            {"password": "x", "user": ""},
            {"password": "x", "user": "a\0b"},
            {"password": "x", "name": "two words"},
        ):
            self.assertRaises(ValidationError, LoginSettings.model_validate, {"name": "a", "user": "b", **wrong})

    def test_two_of_one_name_are_a_mistake(self) -> None:
        with self.assertRaises(ConfigurationError) as caught:
            settings('[[login]]\nname = "a"\nuser = "b"\npassword = "pencil"\n' * 2)
        self.assertIn("two logins are called 'a'", str(caught.exception))
        self.assertNotIn("pencil", str(caught.exception))

    def test_a_password_is_never_shown(self) -> None:
        read = settings('[[login]]\nname = "a"\nuser = "b"\npassword = "pencil"\n')
        self.assertNotIn("pencil", f"{read!r} {read} {read.model_dump()} {read.model_dump_json()}")
        self.assertNotIn("pencil", repr(Logins(read.login).take("a")))

    def test_a_password_that_cannot_be_is_not_repeated_where_it_is_complained_of(self) -> None:
        with self.assertRaises(ConfigurationError) as caught:
            settings('[[login]]\nname = "a"\nuser = "b"\npassword = "pen\\u0007cil"\n')
        self.assertNotIn("cil", str(caught.exception))

    def test_policies_that_name_a_login_which_is_not_there_are_found(self) -> None:
        read = settings(
            '[[login]]\nname = "a"\nuser = "b"\npassword = "c"\n'
            + "".join(
                f'[[policy]]\nname = "{name}"\nuse = "forward"\nnext_hop = "x.test"\ntls = "verify"\nlogin = "{name}"\n'
                for name in ("a", "z")
            )
            + '[[policy]]\nuse = "discard"\n'
        )
        self.assertEqual(list(missing(read.policy, read.login)), [(1, "there is no [[login]] called 'z'")])


class TakingTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "secret"

    def take(self, **secret: Any) -> Any:
        return Logins([LoginSettings(name="a", user="ann", **secret)]).take("a")

    def trouble(self, octets: bytes, mode: int = 0o600) -> str:
        self.path.write_bytes(octets)
        self.path.chmod(mode)
        with self.assertRaises(NoLogin) as caught:
            self.take(password_file=self.path)
        return str(caught.exception)

    def test_a_secret_stands_in_the_configuration_or_in_the_first_line_of_a_file(self) -> None:
        self.assertEqual(self.take(password="pencil"), Password("ann", "pencil"))
        for octets in (
            b"p\xc3\xa4ss word",
            b"p\xc3\xa4ss word\n",
            b"p\xc3\xa4ss word\r\n",
            b"p\xc3\xa4ss word\nmore\n",
        ):
            self.path.write_bytes(octets)
            self.path.chmod(0o600)
            self.assertEqual(self.take(password_file=self.path), Password("ann", "päss word"))
            self.assertEqual(self.take(token_file=self.path), Token("ann", "päss word"))

    def test_what_cannot_be_a_secret(self) -> None:
        self.assertIn("say chmod 600", self.trouble(b"pencil", 0o604))
        self.assertIn("say chmod 600", self.trouble(b"pencil", 0o620))
        self.assertIn("too large", self.trouble(b"x" * 20_000))
        self.assertIn("not UTF-8", self.trouble(b"\xff"))
        for octets in (b"", b"\n", b"a\0b"):
            self.assertIn("the password is empty, or has a control character", self.trouble(octets))
        self.path.unlink()
        os.mkfifo(self.path, 0o600)
        with self.assertRaises(NoLogin) as caught:
            self.take(password_file=self.path)
        self.assertIn("no ordinary file", str(caught.exception))
        with self.assertRaises(NoLogin) as caught:
            self.take(password_file=self.path / "x")
        self.assertIn("cannot be read", str(caught.exception))

    def test_a_secret_is_not_repeated_where_it_is_complained_of(self) -> None:
        self.assertNotIn("pencil", self.trouble(b"pencil\0"))

    def test_nobody_is_known_by_a_name_that_is_not_there(self) -> None:
        self.assertRaises(NoLogin, Logins().take, "a")
