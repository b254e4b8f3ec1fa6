from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.config.addresses import Inet, Systemd, Unix, is_local, listen_address, server_address


class ListenAddressTests(SynchronousTestCase):
    def test_the_forms_that_there_are(self) -> None:
        self.assertEqual(listen_address("127.0.0.1:2525"), Inet("127.0.0.1", 2525))
        self.assertEqual(listen_address("[::1]:2525"), Inet("::1", 2525))
        self.assertEqual(listen_address("[0:0::0]:25"), Inet("::", 25))
        self.assertEqual(listen_address("127.0.0.1:0"), Inet("127.0.0.1", 0))
        self.assertEqual(listen_address("unix:/run/relay/smtp.sock"), Unix(Path("/run/relay/smtp.sock")))
        self.assertEqual(listen_address("systemd:smtp"), Systemd("smtp"))

    @given(st.ip_addresses(), st.integers(0, 65535))
    def test_an_address_is_read_as_it_is_written(self, host: object, port: int) -> None:
        address = Inet(str(host), port)
        self.assertEqual(listen_address(str(address)), address)

    def test_what_is_no_address_is_refused(self) -> None:
        for text in (
            "",
            "2525",
            ":2525",
            "*:25",
            "localhost:25",
            "::1:2525",
            "[127.0.0.1]:25",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:smtp",
            "127.0.0.1:+5",
            "127.0.0.1:٣",
            "[::1]",
            "[::1]2525",
            "tcp:25",
        ):
            with self.assertRaisesRegex(ValueError, "should be like '127.0.0.1:2525'", msg=text):
                listen_address(text)

    def test_ports_end_somewhere(self) -> None:
        for text in ("127.0.0.1:65536", "127.0.0.1:9999999999"):
            with self.assertRaisesRegex(ValueError, "from 0 to 65535"):
                listen_address(text)

    def test_a_socket_has_a_path_or_a_name(self) -> None:
        for text in ("unix:", "systemd:"):
            with self.assertRaisesRegex(ValueError, "should name"):
                listen_address(text)

    def test_only_this_machine_connects_to_loopback_and_unix_sockets(self) -> None:
        for text in ("127.0.0.1:25", "127.8.8.8:25", "[::1]:25", "unix:/x"):
            self.assertTrue(is_local(listen_address(text)), text)
        for text in ("0.0.0.0:25", "[::]:25", "192.168.0.1:25", "10.0.0.1:25", "[fe80::1]:25", "systemd:x"):
            self.assertFalse(is_local(listen_address(text)), text)


class ServerAddressTests(SynchronousTestCase):
    def test_a_port_is_only_said_if_it_is_not_the_usual_one(self) -> None:
        said = ["192.0.2.53", "192.0.2.53:5353", "2001:db8::53", "[2001:db8::53]", "[2001:db8::53]:5353"]
        self.assertEqual(
            [str(server_address(text, port=53)) for text in said],
            ["192.0.2.53:53", "192.0.2.53:5353", "[2001:db8::53]:53", "[2001:db8::53]:53", "[2001:db8::53]:5353"],
        )

    def test_names_cannot_be_looked_up_before_there_is_someone_to_ask(self) -> None:
        for text in ("dns.example.org", "", "dns.example.org:53"):
            with self.assertRaisesRegex(ValueError, "should be like '192.0.2.53'"):
                server_address(text, port=53)

    def test_nobody_is_asked_on_port_0(self) -> None:
        with self.assertRaisesRegex(ValueError, "port 0"):
            server_address("192.0.2.53:0", port=53)
