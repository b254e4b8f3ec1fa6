"""What a policy gets of the world, in the running relay: a store that outlives it, other servers, tables."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from relay.mail.reference import unreferred
from tests.system.clients import Telnet
from tests.system.harness import RelayProcess, SystemTestCase, configuration

pytestmark = pytest.mark.system

CURIOUS = """
from pydantic import BaseModel, ConfigDict
from zope.interface import implementer
from relay.interfaces import HttpTrouble, IRoutingPolicy
from relay.mail.reply import Reply
from relay.mail.routing import Reject

class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    url: str

@implementer(IRoutingPolicy)
class Curious:
    Options = Options

    def __init__(self, options, world):
        self.url, self.world = options.url, world
        self.table = world.table("people")

    async def route(self, inquiry):
        key = str(inquiry.recipient)
        times = int(self.world.store.get(key) or 0) + 1
        self.world.store.put(key, str(times), 3600)
        try:
            said = (await self.world.http.request("GET", self.url)).body.decode()
        except HttpTrouble as trouble:
            said = trouble.kind
        return Reject(Reply.of(550, "5.7.1", f"{times} {said} {self.table.get(key)}"))
"""
POLICY = """
[[table]]
name = "people"
file = "people"

[[policy]]
name = "curious"
use = "curious:Curious"
url = "http://127.0.0.1:{port}/"
"""


class Says(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"welcome")

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


class WorldOfPoliciesTests(SystemTestCase):
    def setUp(self) -> None:
        self.server = HTTPServer(("127.0.0.1", 0), Says)
        thread = threading.Thread(target=self.server.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)

    def heard(self, relay: RelayProcess) -> str:
        with Telnet(relay.address()) as client:
            return unreferred(client.envelope("bob@client.test", "jon@localhost")[0])

    def test_a_policy_counts_beyond_a_restart_asks_a_server_and_sees_a_table_that_changes(self) -> None:
        folder = self.folder()
        (folder / "curious.py").write_text(CURIOUS)
        people = folder / "people"
        people.write_text("jon@localhost first\n")
        relay = self.started(configuration(policies=POLICY.format(port=self.server.server_port)), folder=folder)
        self.assertEqual(self.heard(relay), "550 5.7.1 1 welcome first")
        self.assertEqual(self.heard(relay), "550 5.7.1 2 welcome first")
        relay.stop()
        people.write_text("jon@localhost second\n")
        relay.start()
        self.assertEqual(self.heard(relay), "550 5.7.1 3 welcome second")
        self.assertTrue((folder / "store.db").exists())
        # More than the reactor reads by itself. It is seen within a second, and read by a thread.
        new = people.with_name("new")
        new.write_text("jon@localhost third\n" + "".join(f"key{number} value\n" for number in range(50_000)))
        new.replace(people)
        while (heard := self.heard(relay)).endswith("second"):
            pass
        self.assertRegex(heard, r"^550 5\.7\.1 \d+ welcome third$")

    def test_a_store_that_is_damaged_is_no_reason_not_to_start(self) -> None:
        folder = self.folder()
        (folder / "curious.py").write_text(CURIOUS)
        (folder / "people").write_text("")
        (folder / "store.db").write_bytes(b"no database at all" * 1000)
        relay = self.relay(configuration(policies=POLICY.format(port=self.server.server_port)), folder=folder)
        relay.expected = ["#error", "begins anew"]
        relay.start()
        self.assertEqual(self.heard(relay), "550 5.7.1 1 welcome None")
        self.assertTrue((folder / "store.db.damaged").exists())
