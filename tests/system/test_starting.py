"""Starting: what keeps the relay from it, said in a line, and by an exit status that a supervisor understands."""

from __future__ import annotations

import os
import socket

import pytest

from tests.system.clients import Telnet
from tests.system.harness import MAILBOXES, RelayProcess, SystemTestCase, configuration

pytestmark = pytest.mark.system


class RefusalTests(SystemTestCase):
    def refuses(self, relay: RelayProcess, status: int) -> str:
        """It ends with this status, before it has listened; what it said."""
        relay.spawn()
        self.assertEqual(relay.wait(), status)
        text = relay.output.text(relay.began)
        self.assertNotIn("Traceback", text)
        self.assertNotIn("Listening on", text)
        return text

    def test_a_wrong_configuration_is_said_line_by_line_and_nothing_else_happens(self) -> None:
        wrong = configuration(top="trusted = [1]", policies=MAILBOXES.replace("users", "usrs") + "nonsense = 1\n")
        relay = self.relay(wrong)
        said = self.refuses(relay, os.EX_CONFIG).splitlines()
        self.assertEqual(len(said), 3, said)
        self.assertEqual(said[0].split(":")[:2], ["relay.toml", "2"])
        self.assertRegex(said[1], r"^relay\.toml:\d+: policy\.1\.usrs: unknown key, did you mean 'users'\?$")
        self.assertRegex(said[2], r"^relay\.toml:\d+: policy\.1\.nonsense: unknown key")
        self.assertEqual([path.name for path in relay.folder.iterdir()], ["relay.toml"])

    def test_a_file_that_is_no_toml_and_one_that_is_not_there(self) -> None:
        relay = self.relay("hostname = \n")
        self.assertRegex(self.refuses(relay, os.EX_CONFIG), r"^relay\.toml:1: ")
        relay.configuration.unlink()
        self.assertRegex(self.refuses(relay, os.EX_CONFIG), r"^relay\.toml: cannot be read: No such file")

    def test_a_port_that_somebody_has_is_named(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as somebody:
            port = somebody.getsockname()[1]
            relay = self.relay(configuration(listeners={"free": "127.0.0.1:0", "taken": f"127.0.0.1:{port}"}))
            said = self.refuses(relay, os.EX_TEMPFAIL)
        self.assertIn(f"relay.toml: cannot listen on 127.0.0.1:{port}: Address already in use", said)

    def test_a_port_that_somebody_has_is_named_where_it_is_for_numbers(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as somebody:
            port = somebody.getsockname()[1]
            relay = self.relay(configuration(tables=f'[metrics]\naddress = "127.0.0.1:{port}"\n'))
            said = self.refuses(relay, os.EX_TEMPFAIL)
        self.assertIn(f"relay.toml: cannot listen on 127.0.0.1:{port} for [metrics]: Address already in use", said)

    def test_a_relay_for_strangers_is_not_started_on_loopback_by_netcat_manners(self) -> None:
        relay = self.relay(configuration(listeners={"world": "0.0.0.0:0"}))
        self.assertIn("lenient", self.refuses(relay, os.EX_CONFIG))

    def test_a_second_relay_on_the_same_spool_is_refused_and_the_first_goes_on(self) -> None:
        first = self.started(configuration())
        text = configuration().replace("control.sock", "other.sock")
        second = self.relay(text, folder=first.folder, name="second.toml")
        said = self.refuses(second, 1)
        self.assertIn(f"another process has this spool (process {first.pid})", said)
        with Telnet(first.address()) as client:
            client.post("jon@localhost")

    def test_a_second_relay_with_the_same_control_socket_is_refused(self) -> None:
        first = self.started(configuration())
        text = configuration(spool='path = "other"')
        second = self.relay(text, folder=first.folder, name="second.toml")
        said = self.refuses(second, os.EX_TEMPFAIL)
        self.assertRegex(said, r"second\.toml: cannot open the control socket .*control\.sock: another process answers")
        self.assertEqual(first.relayctl("status", "--socket", "control.sock").returncode, 0)

    def test_a_spool_that_cannot_be_a_directory_is_named(self) -> None:
        relay = self.relay(configuration())
        (relay.folder / "spool").write_text("not a directory")
        self.assertIn(f"The relay cannot start: {relay.folder / 'spool'}", self.refuses(relay, 1))

    def test_a_spool_that_is_no_database_is_left_as_it_is_and_works_when_it_is_restored(self) -> None:
        relay = self.started(configuration())
        relay.stop()
        [database] = [path for path in (relay.folder / "spool").iterdir() if path.suffix in (".db", ".sqlite")]
        octets = database.read_bytes()
        database.write_bytes(b"this is not a database " * 1000)
        said = self.refuses(relay, 1)
        self.assertIn(str(database), said)
        self.assertEqual(database.read_bytes(), b"this is not a database " * 1000)
        database.write_bytes(octets)
        relay.expected.append("is damaged")
        relay.start()

    def test_a_socket_for_which_there_is_no_folder_says_so(self) -> None:
        relay = self.relay(configuration() + '\n[[listener]]\naddress = "unix:absent/s.sock"\n')
        said = self.refuses(relay, os.EX_TEMPFAIL)
        self.assertIn(f"absent/s.sock: there is no folder {relay.folder}/absent", said)

    def test_a_user_who_is_not_there_is_named_before_anything_listens(self) -> None:
        relay = self.relay(configuration() + '\n[process]\nuser = "nobody-of-this-name"\n')
        said = self.refuses(relay, os.EX_CONFIG)
        self.assertIn(": process.user: there is no user 'nobody-of-this-name'", said)

    def test_a_control_socket_that_nobody_answers_at_is_replaced(self) -> None:
        relay = self.relay(configuration())
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(relay.folder / "control.sock"))
        (relay.folder / "control.sock.lock").symlink_to(str(os.getpid()))
        relay.start()
        self.assertEqual(relay.relayctl("status", "--socket", "control.sock").returncode, 0)

    def test_a_mail_log_that_cannot_be_written_is_named(self) -> None:
        relay = self.relay(configuration().replace('format = "json"', 'mail = "relay.toml/mail.log"'))
        said = self.refuses(relay, os.EX_TEMPFAIL)
        path = relay.folder / "relay.toml" / "mail.log"
        self.assertIn(f"relay.toml: cannot write the mail log {path}: ", said)

    def test_the_command_line_without_a_configuration_says_what_is_missing(self) -> None:
        relay = self.relay(configuration())
        relay.configuration = relay.folder / "absent.toml"
        self.assertIn("absent.toml: cannot be read", self.refuses(relay, os.EX_CONFIG))


class LeftoverTests(SystemTestCase):
    def test_what_a_killed_relay_has_left_keeps_no_other_from_starting(self) -> None:
        relay = self.started(configuration())
        for _ in range(2):
            relay.kill()
            relay.start()
        self.assertEqual(relay.relayctl("status", "--socket", "control.sock").returncode, 0)
