"""What a worker does otherwise than a relay that is alone."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from relay.config.addresses import Inet, ListenAddress, Unix
from relay.control.reloading import Reloaded
from relay.net.disk import Disk
from relay.net.line import Line
from relay.net.listen import inherit, listen, share
from relay.net.reactor import RelayReactor
from relay.net.threads import Stop
from relay.reloading import Checked
from relay.service import RelayService
from relay.sharing import Share, shard
from relay.spool.layout import Layout, prepare
from relay.workers.among import Among, Given, take_over_pauses
from relay.workers.orders import Orders, Reading
from tests.real_reactor import RealReactor


class FolderCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)


class Greeter(Factory):
    """Says its name to whoever comes."""

    noisy = False

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.served = 0

    def buildProtocol(self, addr: Any) -> Protocol:
        factory = self

        class Greeting(Protocol):
            def connectionMade(self) -> None:
                factory.served += 1
                self.transport.write(factory.name)  # type: ignore[union-attr]
                self.transport.loseConnection()  # type: ignore[union-attr]

        return Greeting()


class SharedSocketTests(FolderCase):
    """One socket, of which two accept, who are in two processes otherwise."""

    def setUp(self) -> None:
        super().setUp()
        self.real = RealReactor(RelayReactor)
        self.addCleanup(lambda: [port.stopListening() for port in self.real.reactor.removeAll()])
        self.one, self.other = Greeter(b"one"), Greeter(b"other")

    def bound(self, address: ListenAddress) -> Any:
        parent = listen(self.real.reactor, address, Factory(), backlog=5)
        descriptor = os.dup(share(parent))
        ports = [inherit(self.real.reactor, descriptor, factory, backlog=5) for factory in (self.one, self.other)]
        os.close(descriptor)
        return parent, *ports

    def heard(self, family: socket.AddressFamily, where: Any) -> str:
        with socket.socket(family) as client:
            client.settimeout(10)
            client.connect(where)
            before = self.one.served + self.other.served
            self.real.until(lambda: self.one.served + self.other.served > before)
            return client.recv(10).decode()

    def test_who_stops_listening_leaves_the_others_theirs(self) -> None:
        parent, one, other = self.bound(Inet("127.0.0.1", 0))
        where = ("127.0.0.1", parent.getHost().port)
        self.assertEqual(one.getHost(), parent.getHost())
        one.startReading()
        self.assertEqual(self.heard(socket.AF_INET, where), "one")
        self.real.result(one.stopListening())
        self.real.result(parent.stopListening())
        other.startReading()
        self.assertEqual(self.heard(socket.AF_INET, where), "other")
        self.real.result(other.stopListening())
        with socket.socket() as client, self.assertRaises(ConnectionRefusedError):
            client.connect(where)

    def test_the_name_of_a_unix_socket_is_there_until_the_parent_removes_it(self) -> None:
        path = self.folder / "s"
        parent, one, other = self.bound(Unix(path))
        path.chmod(0o600)
        one.startReading()
        self.assertEqual(self.heard(socket.AF_UNIX, str(path)), "one")
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.real.result(one.stopListening())
        other.startReading()
        self.assertEqual(self.heard(socket.AF_UNIX, str(path)), "other")
        self.real.result(parent.stopListening())
        self.assertFalse(path.exists())
        self.real.result(other.stopListening())

    def test_of_several_who_come_at_once_each_takes_one(self) -> None:
        parent, one, other = self.bound(Inet("127.0.0.1", 0))
        clients = [socket.create_connection(("127.0.0.1", parent.getHost().port)) for _ in range(4)]
        for client in clients:
            self.addCleanup(client.close)
        one.startReading()
        other.startReading()
        self.real.until(lambda: self.one.served + self.other.served == 4)
        self.assertEqual((self.one.served, self.other.served), (2, 2))
        for port in (one, other, parent):
            self.real.result(port.stopListening())


class ShardTests(FolderCase):
    def setUp(self) -> None:
        super().setUp()
        self.spool = self.folder / "spool"
        self.own = shard(self.spool, 1)
        prepare(Layout(self.spool), Disk())
        self.own.parent.mkdir()

    def test_a_new_shard_pauses_what_is_paused(self) -> None:
        (self.spool / "paused.json").write_text("what is paused")
        take_over_pauses(self.spool, self.own)
        self.assertEqual((self.own / "paused.json").read_text(), "what is paused")

    def test_where_nothing_is_paused_nothing_is_made(self) -> None:
        take_over_pauses(self.spool, self.own)
        self.assertFalse(self.own.exists())

    def said(self, spool: Path, text: str, moment: int) -> None:
        spool.mkdir(parents=True, exist_ok=True)
        (spool / "paused.json").write_text(text)
        os.utime(spool / "paused.json", (moment, moment))

    def test_one_that_was_not_there_pauses_what_was_said_last(self) -> None:
        self.said(self.own, "before", 1000)
        self.said(shard(self.spool, 2), "last", 3000)
        self.said(self.spool, "then", 2000)
        for each in (self.own, self.spool):
            take_over_pauses(self.spool, each)
            self.assertEqual((each / "paused.json").read_text(), "last")
            self.assertEqual((each / "paused.json").stat().st_mtime, 3000)

    def test_one_that_has_heard_the_last_word_keeps_it(self) -> None:
        self.said(self.own, "last", 3000)
        self.said(self.spool, "before", 1000)
        self.said(shard(self.spool, 2), "before", 2000)
        take_over_pauses(self.spool, self.own)
        self.assertEqual((self.own / "paused.json").read_text(), "last")

    def test_of_words_of_the_same_moment_its_own_stays(self) -> None:
        self.said(self.own, "own", 1000)
        self.said(shard(self.spool, 2), "other", 1000)
        take_over_pauses(self.spool, self.own)
        self.assertEqual((self.own / "paused.json").read_text(), "own")


class GivenTests(SynchronousTestCase):
    def test_what_the_parent_says_counts_and_no_file_is_read(self) -> None:
        reading = Reading("no.toml", "/nowhere", 'greeting = "one"', "d1", "mx.test", "ann")
        given = Given(Orders(reading, Share(1, 2), 1, {}))
        self.assertEqual((given.digest("no.toml"), given.check("no.toml", Stop())), ("d1", Checked()))
        given.reading = Reading("no.toml", "/nowhere", 'greeting = "two"', "d2", "mx.test", "ann")
        settings = given.settings("no.toml")
        self.assertEqual((given.digest("no.toml"), settings.greeting), ("d2", "two"))
        self.assertEqual(settings.spool.path, Path("/nowhere/var/spool/shards/1"))


class Reloads:
    """A service that takes up what it finds when it is told so."""

    def __init__(self, source: Given) -> None:
        self.source = source
        self.found: list[str] = []
        self.waiting: list[Deferred[Reloaded]] = []

    async def reload(self) -> Reloaded:
        self.found.append(self.source.reading.digest)
        self.waiting.append(Deferred())
        return await self.waiting[-1]


class ReloadTests(SynchronousTestCase):
    def test_of_two_that_it_is_told_at_once_it_takes_up_one_after_the_other(self) -> None:
        orders = Orders(Reading("no.toml", "/nowhere", "", "d1", "mx.test", "ann"), Share(1, 2), 1, {})
        part = Among(orders, Line(), None)
        service = Reloads(part.source)
        for number, digest in ((1, "d2"), (2, "d3")):
            body = {"number": number, "text": "", "digest": digest}
            Deferred.fromCoroutine(part.reload(cast(RelayService, service), body))
        self.assertEqual(service.found, ["d2"])
        service.waiting[0].callback(Reloaded(False, "d1", ("no",)))
        self.assertEqual(service.found, ["d2", "d3"])
        service.waiting[1].callback(Reloaded(True, "d3"))
        self.assertEqual(part.source.reading.digest, "d3")
