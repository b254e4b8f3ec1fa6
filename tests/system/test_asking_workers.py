"""What an operator and Prometheus ask of a relay that runs, with one worker and with two."""

from __future__ import annotations

import getpass
import json
import urllib.request
from typing import Any, ClassVar

import pytest
from prometheus_client.parser import text_string_to_metric_families as families

from tests.system.clients import Telnet, queue_id
from tests.system.crowd import crowd
from tests.system.harness import RelayProcess, SystemTestCase, configuration

pytestmark = pytest.mark.system

#: Nobody listens there: all mail waits.
NOWHERE = '[[policy]]\nuse = "forward"\nnext_hop = "127.0.0.1:1"\n'
METRICS = '[metrics]\naddress = "127.0.0.1:0"\n'


def page(relay: RelayProcess) -> list[Any]:
    """All numbers of its page."""
    address = relay.wait_for(r"Numbers for Prometheus are at (\S+),", of_this_start=True)[1]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=20) as answer:  # it is ours
        return [sample for family in families(answer.read().decode()) for sample in family.samples]


def total(samples: list[Any], name: str, **labels: str) -> float:
    return sum(each.value for each in samples if each.name == name and labels.items() <= each.labels.items())


class OneWorkerTests(SystemTestCase):
    def test_it_has_a_page_of_numbers(self) -> None:
        relay = self.started(configuration(tables=METRICS))
        with Telnet(relay.address()) as client:
            relay.event("delivered", queue_id(client.post("jon@localhost")))
            samples = page(relay)
            self.assertEqual(total(samples, "relay_connections", worker="0", listener="local"), 1)
        self.assertEqual(total(samples, "relay_messages_total", event="delivered"), 1)
        self.assertEqual(total(samples, "relay_worker_up"), 1)
        self.assertEqual(total(samples, "relay_queue_entries"), 0)


class TwoWorkersTests(SystemTestCase):
    relay: ClassVar[RelayProcess]
    ids: ClassVar[list[str]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.relay = cls.share(configuration(tables=METRICS + "[process]\nworkers = 2\n", policies=NOWHERE))
        clients = crowd(cls.relay)
        cls.ids = sorted(queue_id(client.post(f"u{at}@example.org")) for at, client in enumerate(clients))
        for id in cls.ids:
            cls.relay.event("delayed", id)
        for client in clients:
            client.close()

    def ctl(self, *arguments: str) -> str:
        done = self.relay.relayctl(*arguments, "--socket", "control.sock")
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        return done.stdout

    def test_the_queue_is_one(self) -> None:
        status = json.loads(self.ctl("status", "--json"))
        self.assertEqual(status["queue"]["entries"], len(self.ids))
        self.assertTrue(all(each["queue"]["entries"] for each in status["workers"]), "one of them had nothing to do")
        listed = [json.loads(line)["id"] for line in self.ctl("queue", "list", "--json").splitlines()]
        self.assertEqual(listed, self.ids)
        for id in self.ids[:2]:
            self.assertIn(id, self.ctl("queue", "show", id))
            self.assertIn(id, self.ctl("trace", id))
            self.assertIn(id, self.ctl("why", id))
        names = [each["name"] for each in json.loads(self.ctl("dest", "list", "--json"))]
        self.assertEqual(names.count("[127.0.0.1]:1"), 1)

    def test_acts_are_done_in_both_and_each_is_in_the_log_with_who_asked_for_it(self) -> None:
        since = self.relay.mark
        self.assertEqual(self.ctl("queue", "hold", "--all"), f"{len(self.ids)} recipients held\n")
        for id in self.ids:
            self.assertEqual(self.relay.event("held", id, since=since)["operator"], getpass.getuser())
        self.assertEqual(self.ctl("queue", "release", "--all"), f"{len(self.ids)} recipients released\n")
        self.assertIn("is paused", self.ctl("dest", "pause", "elsewhere.example"))
        self.assertIn("paused by an operator: elsewhere.example", self.ctl("status"))
        self.assertIn("goes on", self.ctl("dest", "resume", "elsewhere.example"))
        self.relay.event("resumed", since=since)
        self.assertEqual(len(self.relay.said('"event": ?"paused"')), 1)

    def test_there_is_one_page_of_numbers(self) -> None:
        samples = page(self.relay)
        self.assertEqual(total(samples, "relay_worker_up"), 2)
        self.assertEqual(total(samples, "relay_queue_entries"), len(self.ids))
        self.assertEqual(total(samples, "relay_messages_total", event="accepted"), len(self.ids))
        for worker in ("0", "1"):
            self.assertGreater(total(samples, "relay_messages_total", event="accepted", worker=worker), 0)
