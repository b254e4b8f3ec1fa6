"""Sockets that were opened before the relay was started, as systemd does it."""

from __future__ import annotations

import socket

import pytest

from tests.system.clients import Telnet, queue_id
from tests.system.harness import BIN, RelayProcess, SystemTestCase, configuration

pytestmark = pytest.mark.system

#: Becomes the program that is named behind it, with two sockets; what it was given on the way is closed.
HANDING_OVER = f"""
import os, socket, sys

local = socket.socket(socket.AF_UNIX)
local.bind(os.path.abspath("lmtp.sock"))
os.chmod("lmtp.sock", 0o600)
public = socket.socket()
public.bind(("127.0.0.1", 0))
# Out of the way of each other first.
for number, each in enumerate([local, public], 3):
    each.listen(5)
    os.dup2(each.fileno(), number + 20)
for number in (3, 4):
    os.dup2(number + 20, number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="lmtp:smtp")
os.execv(sys.executable, [sys.executable, os.path.join({str(BIN)!r}, sys.argv[1]), *sys.argv[2:]])
"""

#: It is loaded before the relay is, as are Twisted's own plugins where there is no cache of them.
EARLY_PLUGIN = "import twisted.internet.endpoints\n"

TWISTD = ("twistd", "--nodaemon", "--pidfile=", "--no_save", "relay")
BOTH = {"smtp": "systemd:smtp", "lmtp": "systemd:lmtp"}


class HandedOverTests(SystemTestCase):
    def started_with_sockets(self, *program: str, workers: int = 1) -> RelayProcess:
        folder = self.folder()
        (folder / "hand_over.py").write_text(HANDING_OVER)
        plugins = folder / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        (plugins / "early.py").write_text(EARLY_PLUGIN)
        text = configuration(listeners=BOTH, newlines="strict", tables=f"[process]\nworkers = {workers}\n")
        return self.started(text, folder=folder, program=(str(folder / "hand_over.py"), *program))

    def check(self, relay: RelayProcess) -> None:
        path = relay.folder / "lmtp.sock"
        self.assertEqual(len(relay.said(rf"Listening on unix:{path} \(lmtp\)")), 1)
        for where in (relay.address("smtp"), path):
            with Telnet(where) as client:
                relay.event("delivered", queue_id(client.post("jon@localhost")))
        relay.stop()
        self.assertTrue(path.is_socket(), "the name is not the relay's")
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        # Nobody has it any more, not even a program that the relay has started.
        with socket.socket(socket.AF_UNIX) as client, self.assertRaises(ConnectionRefusedError):
            client.connect(str(path))

    def test_twistd_serves_on_each_by_its_name(self) -> None:
        self.check(self.started_with_sockets(*TWISTD))

    def test_the_command_does_so_too(self) -> None:
        self.check(self.started_with_sockets("relay"))

    def test_workers_share_them(self) -> None:
        self.check(self.started_with_sockets(*TWISTD, workers=2))
