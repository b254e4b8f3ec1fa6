"""Several workers: one relay to whoever looks, which loses nothing when one of them dies."""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from relay.net.disk import Disk, opened
from relay.spool.layout import Layout, prepare
from tests.system.clients import Telnet, queue_id
from tests.system.crowd import crowd, workers
from tests.system.harness import MAILBOXES, PATIENCE, RelayProcess, SystemTestCase, configuration, eventually

pytestmark = pytest.mark.system

#: How long clients send while workers are killed, and the seconds between two kills.
SECONDS = float(os.environ.get("RELAY_WORKERS_SECONDS", "2"))
BETWEEN = 10.0
CUSTOMERS = 4

TWO = "[process]\nworkers = 2\n"
#: What the death of a worker looks like in the log.
DEATH = "Worker . has ended by signal 9"
SOON = '[delivery.retry]\nfirst = "1s"\nmost = "1s"\n'
LIMITS = "[limits]\nconnections_per_minute = 1000000\n"


def pids(relay: RelayProcess) -> list[int]:
    return [each["pid"] for each in workers(relay)]


def mails(relay: RelayProcess, user: str = "jon") -> list[Path]:
    return [path for folder in ("new", "cur") for path in (relay.folder / "mail" / user / folder).glob("*")]


class ServingTests(SystemTestCase):
    def test_both_serve_as_one_relay_and_stop_in_order(self) -> None:
        relay = self.started(configuration(tables=TWO, listeners={"local": "127.0.0.1:0", "lmtp": "unix:lmtp.sock"}))
        clients = crowd(relay)
        for client in clients:
            relay.event("delivered", queue_id(client.post("jon@localhost")))
        with Telnet(relay.folder / "lmtp.sock") as client:
            relay.event("delivered", queue_id(client.post("jon@localhost")))
        self.assertEqual(len(mails(relay)), len(clients) + 1)
        self.assertEqual(len(relay.said("Listening on 127.0.0.1")), 1)
        began = time.monotonic()
        relay.send_signal(signal.SIGTERM)
        for client in clients:
            self.assertTrue(client.reply().startswith("421 4.3.2"))
            client.close()
        relay.wait_stopped()
        self.assertLess(time.monotonic() - began, 10)
        self.assertFalse((relay.folder / "lmtp.sock").exists())
        self.assertEqual(list(relay.folder.glob("control.sock*")), [])

    def test_where_a_worker_cannot_begin_the_relay_does_not(self) -> None:
        relay = self.relay(configuration(tables=TWO))
        relay.expected += ["cannot start", "Worker 1 has ended with status 1"]
        (relay.folder / "spool" / "shards").mkdir(parents=True)
        (relay.folder / "spool" / "shards" / "1").write_text("a file")
        relay.spawn()
        relay.wait_for("The relay cannot start: worker 1 has ended with status 1")
        self.assertEqual(relay.wait(), 1)
        relay.check_log()


class ReloadTests(SystemTestCase):
    def test_all_have_the_new_one_and_one_that_starts_later_has_what_is_in_force_and_ctrl_c_ends_all(self) -> None:
        relay = self.started(configuration(tables=TWO))
        relay.expected += ["relay.toml:.*unknown key", "was not reloaded", DEATH]
        relay.configuration.write_text(configuration(tables=TWO, policies=MAILBOXES.replace('"jon"', '"eve"')))
        relay.send_signal(signal.SIGHUP)
        relay.wait_for(r"#info\] relay.toml is in force as it is now")
        relay.configuration.write_text(configuration(tables=TWO, policies=MAILBOXES.replace("users", "usrs")))
        said = relay.relayctl("reload", "--socket", "control.sock")
        self.assertEqual(said.returncode, 1)
        self.assertRegex(said.stderr, r"usrs: unknown key")
        os.kill(pids(relay)[1], signal.SIGKILL)
        relay.wait_for("Worker 1 serves again")
        clients = [Telnet(relay.address()) for _ in range(20)]
        for client in clients:
            self.assertTrue(client.post("eve@localhost").startswith("250"))
            client.close()
        # Ctrl-C is said to all processes at a terminal, and the parent says what is to be done.
        for pid in (*pids(relay), relay.pid):
            os.kill(pid, signal.SIGINT)
        relay.wait_stopped(by=signal.SIGINT)


class ShardTests(SystemTestCase):
    def test_what_is_said_while_workers_start_is_done_and_who_waits_for_nobody_ends(self) -> None:
        relay = self.relay(configuration(tables=TWO, listeners={"local": "127.0.0.1:0", "lmtp": "unix:lmtp.sock"}))
        prepare(Layout(relay.folder / "spool"), Disk())
        (relay.folder / "spool" / "shards").mkdir()
        layout = Layout(relay.folder / "spool" / "shards" / "1")
        prepare(layout, Disk())
        layout.lock.touch()
        disk = Disk()
        with opened(disk, str(layout.lock), os.O_RDWR) as lock:
            self.assertTrue(disk.lock(lock))
            relay.spawn()
            eventually((relay.folder / "control.sock.0").exists)
            # Worker 1 waits for its shard, and has the sockets. It lets go of them when there is nobody to serve for.
            relay.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            relay.wait()
            eventually(lambda: _nobody_is_at(relay.folder / "lmtp.sock"))
            self.assertLess(time.monotonic() - killed, 10)
            (relay.folder / "control.sock.0").unlink(missing_ok=True)
            relay.spawn()
            eventually((relay.folder / "control.sock.0").exists)
            relay.configuration.write_text(relay.configuration.read_text().replace('"jon"', '"eve"'))
            relay.send_signal(signal.SIGHUP)
        relay.wait_until_ready()
        relay.wait_for(r"#info\] relay.toml is in force as it is now", of_this_start=True)
        with Telnet(relay.address()) as client:
            self.assertTrue(client.post("eve@localhost").startswith("250"))

    def test_one_that_is_left_over_and_damaged_keeps_nothing_else_from_serving(self) -> None:
        relay = self.relay(configuration())
        relay.expected += ["worker 1", "Worker 1 has ended with status 1"]
        prepare(Layout(relay.folder / "spool"), Disk())
        (relay.folder / "spool" / "shards").mkdir()
        shard = relay.folder / "spool" / "shards" / "1"
        prepare(Layout(shard), Disk())
        Layout(shard).database.write_bytes(b"garbage" * 2000)
        relay.start()
        with Telnet(relay.address()) as client:
            relay.event("delivered", queue_id(client.post("jon@localhost")))
        relay.wait_for(f"What is left in {shard} is not delivered: worker 1 cannot begin there")
        said = relay.relayctl("status", "--socket", "control.sock")
        self.assertIn(str(shard), said.stdout + said.stderr)
        # It is tried again, and what is known of it is not said again.
        seen: set[int | None] = set()
        eventually(lambda: bool(seen.add(workers(relay)[1]["pid"])) or len(seen - {None}) > 2)
        self.assertEqual(len(relay.said("What is left in")), 1)
        self.assertEqual(len(relay.said("worker 1: The relay cannot start")), 1)


def _nobody_is_at(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == errno.ECONNREFUSED


class Customer(threading.Thread):
    """Sends message after message, each by a connection of its own, and counts what was promised."""

    def __init__(self, relay: RelayProcess, until: float) -> None:
        super().__init__(daemon=True)
        self._relay = relay
        self._until = until
        self.connections = 0
        self.promised: list[str] = []
        self.lost: list[str] = []

    def run(self) -> None:
        while time.monotonic() < self._until:
            self.connections += 1
            try:
                with Telnet(self._relay.address()) as client:
                    self.promised.append(queue_id(client.post("jon@localhost")))
                    client.quit()
            except (AssertionError, OSError) as problem:
                self.lost.append(repr(problem))


class KillTests(SystemTestCase):
    def test_nothing_is_lost_by_a_kill_of_a_worker_but_the_connections_in_it_nor_by_one_of_the_parent(self) -> None:
        relay = self.started(configuration(tables=TWO + LIMITS))
        relay.expected += [DEATH]
        began = time.monotonic()
        customers = [Customer(relay, began + SECONDS) for _ in range(CUSTOMERS)]
        for customer in customers:
            customer.start()
        kills = 0
        while True:
            threading.Event().wait(min(SECONDS / 4, BETWEEN / 2))
            mark, victim = relay.mark, kills % 2
            os.kill(pids(relay)[victim], signal.SIGKILL)
            kills += 1
            relay.wait_for(f"Worker {victim} serves again", mark)
            if time.monotonic() - began + BETWEEN > SECONDS:
                break
            threading.Event().wait(BETWEEN / 2)
        for customer in customers:
            customer.join(PATIENCE)
        # With the parent all workers end, in good order, and there may be another parent at once.
        relay.send_signal(signal.SIGKILL)
        relay.wait()
        relay.start()
        lost = [each for customer in customers for each in customer.lost]
        connections = sum(customer.connections for customer in customers)
        print(f"{kills} workers killed: {len(lost)} of {connections} connections lost")
        self.assertLessEqual(len(lost), kills * CUSTOMERS, lost)
        if SECONDS >= BETWEEN:
            self.assertLess(len(lost) / connections, 1 / 1000, lost)
        promised = sum(len(customer.promised) for customer in customers)
        eventually(lambda: len(mails(relay)) >= promised)
        # A mail may come twice whose delivery was cut off, or whose 250 was.
        self.assertLessEqual(len(mails(relay)), promised + kills * 50)


class FewerTests(SystemTestCase):
    def test_what_a_worker_has_left_is_delivered_when_there_is_none_in_its_place(self) -> None:
        quiet = "[history]\nkeep = false\n"
        relay = self.relay(configuration(tables=TWO + SOON + quiet))
        (relay.folder / "mail").write_text("in the way")
        relay.start()
        first = pids(relay)[0]
        os.kill(first, signal.SIGSTOP)
        clients = [Telnet(relay.address()) for _ in range(3)]
        ids = [queue_id(client.post("jon@localhost")) for client in clients]
        for id in ids:
            relay.event("delayed", id)
        os.kill(first, signal.SIGCONT)
        relay.stop()
        (relay.folder / "mail").unlink()
        relay.configuration.write_text(configuration(tables=SOON + quiet))
        relay.start()
        relay.wait_for("mail that is left in shard 1 is delivered too", of_this_start=True)
        for id in ids:
            relay.event("delivered", id)
        # Now it holds nothing.
        relay.wait_for("spool/shards/1 has been removed", of_this_start=True)
        self.assertFalse((relay.folder / "spool" / "shards" / "1").exists())
        eventually(lambda: len(workers(relay)) == 1)
        self.assertEqual(len(mails(relay)), 3)
