"""Mail to a program and to an application, by the configuration of a real relay alone."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.system.clients import Telnet, queue_id
from tests.system.harness import RelayProcess, SystemTestCase, configuration, eventually

pytestmark = pytest.mark.system

#: Root runs no program as itself.
USER = 'user = "nobody"' if os.geteuid() == 0 else ""

PROGRAM = """
[[policy]]
name = "{name}"
use = "deliver"
agent = "pipe"
domains = ["{name}.test"]
[policy.parameters]
command = {command}
{user}
"""

APPLICATION = """
[[policy]]
use = "deliver"
agent = "http"
domains = ["app.test"]
parameters = {{ url = "http://127.0.0.1:{port}/mail", token = "token" }}
"""


class PipeTests(SystemTestCase):
    def begin(self, **commands: list[str]) -> RelayProcess:
        policies = "".join(
            PROGRAM.format(name=name, command=json.dumps(command), user=USER) for name, command in commands.items()
        )
        return self.started(configuration(policies=policies))

    def open_folder(self) -> Path:
        """A folder in which anybody may write: the program is somebody else."""
        folder = tempfile.TemporaryDirectory(prefix="relay-")
        self.addCleanup(folder.cleanup)
        Path(folder.name).chmod(0o777)
        return Path(folder.name)

    def post(self, relay: RelayProcess, recipient: str) -> str:
        with Telnet(relay.address()) as client:
            return queue_id(client.post(recipient))

    def test_a_program_gets_the_mail(self) -> None:
        folder = self.open_folder()
        relay = self.begin(keep=["/usr/bin/tee", str(folder / "{local}")])
        id = self.post(relay, "jon@keep.test")
        relay.event("delivered", id, by="/usr/bin/tee")
        lines = (folder / "jon").read_bytes().split(b"\n")
        self.assertEqual(lines[:2], [b"Return-Path: <bob@client.test>", b"Delivered-To: jon@keep.test"])
        self.assertEqual(lines[-4:], [b"", b"Hi!", b".", b""])
        relay.wait_for(f"/usr/bin/tee said of {id}: Return-Path: <bob@client.test>")

    def test_its_status_says_what_becomes_of_it(self) -> None:
        relay = self.begin(
            nobody=["/bin/sh", "-c", "echo who is that; exit 67"],
            full=["/bin/sh", "-c", "echo full >&2; exit 75"],
            absent=["/no/such/program"],
        )
        failed = relay.event("failed", self.post(relay, "jon@nobody.test"), status="5.1.1")
        self.assertIn("exit status 67, there is no such user: who is that", failed["note"])
        delayed = relay.event("delayed", self.post(relay, "jon@full.test"))
        self.assertIn("exit status 75, it asks to be tried again: full", delayed["note"])
        delayed = relay.event("delayed", self.post(relay, "jon@absent.test"))
        self.assertIn("cannot run /no/such/program: No such file or directory", delayed["note"])

    def test_what_still_runs_when_the_relay_stops_is_ended_and_its_mail_is_kept(self) -> None:
        folder = self.open_folder()
        relay = self.begin(slow=["/bin/sh", "-c", 'echo $$ > "$0"; sleep 600', str(folder / "pid")])
        id = self.post(relay, "jon@slow.test")
        eventually(lambda: (folder / "pid").exists() and (folder / "pid").read_text().endswith("\n"))
        pid = int((folder / "pid").read_text())
        relay.stop()
        eventually(lambda: not Path(f"/proc/{pid}").exists())
        relay.configuration.write_text(relay.configuration.read_text().replace("sleep 600", "exit 0"))
        # What runs then is what the configuration of that day says.
        (folder / "pid").unlink()
        relay.start()
        relay.event("delivered", id)
        self.assertTrue((folder / "pid").exists())


class Application(BaseHTTPRequestHandler):
    """An application by the standard library: who is `unknown` is not there, and `later` has to wait."""

    def do_POST(self) -> None:
        envelope = json.loads(self.headers["Relay-Envelope"])
        octets = self.rfile.read(int(self.headers["Content-Length"]))
        local = envelope["recipients"][0]["address"].partition("@")[0]
        self.server.posted.append((dict(self.headers), octets))  # type: ignore[attr-defined]
        self.send_response({"unknown": 404, "later": 503}.get(local, 204))
        self.end_headers()

    def log_message(self, *words: Any) -> None:
        pass


class HttpTests(SystemTestCase):
    def test_an_application_gets_the_mail_and_says_what_becomes_of_it(self) -> None:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Application)
        posted: list[tuple[Mapping[str, str], bytes]] = []
        server.posted = posted  # type: ignore[attr-defined]
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        self.addCleanup(server.server_close)
        self.addCleanup(serving.join)
        self.addCleanup(server.shutdown)
        folder = self.folder()
        (folder / "token").write_text("s3cret\n")
        (folder / "token").chmod(0o600)
        port = server.server_address[1]
        relay = self.started(configuration(policies=APPLICATION.format(port=port)), folder=folder)
        ids = {}
        for name in ("jon", "unknown", "later"):
            with Telnet(relay.address()) as client:
                ids[name] = queue_id(client.post(f"{name}@app.test"))
        relay.event("delivered", ids["jon"], by=f"http://127.0.0.1:{port}/mail", text="204 No Content")
        relay.event("failed", ids["unknown"], status="5.1.1")
        relay.event("delayed", ids["later"])
        headers, octets = next(each for each in posted if "jon@app.test" in each[0]["Relay-Envelope"])
        self.assertEqual(headers["Authorization"], "Bearer s3cret")
        self.assertEqual(headers["Idempotency-Key"], f"{ids['jon']}.0")
        self.assertTrue(octets.startswith(b"Received: from client.test"))
        self.assertTrue(octets.endswith(b"\r\n\r\nHi!\r\n.\r\n"))
        self.assertEqual(relay.said("s3cret"), [])
