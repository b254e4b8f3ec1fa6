"""Our transports beside Twisted's: the same conversations over real sockets, and nobody can tell one from the other."""

from __future__ import annotations

import errno
import socket
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionRefusedError
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPullProducer,
    IPushProducer,
    ISSLTransport,
)
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.protocols import tls
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.net.dialling import PromptClient
from relay.net.reactor import LeanReactor, MonotonicReactor, PromptReactor, RelayReactor, kind_of_reactor
from relay.net.transports import AT_ONCE, PromptServer, PromptUnixClient, PromptUnixServer
from tests.calls import calls_of
from tests.real_reactor import RealReactor
from tests.test_tls import TlsTestCase

#: More than the kernel keeps for a connection of this machine.
MUCH = 24 * 1024 * 1024

#: What came to pass at one end, in its order.
Story = list[Any]


def short_path(case: SynchronousTestCase) -> str:
    """For a Unix socket, whose path may not be long; it is there as long as the test."""
    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    case.addCleanup(folder.cleanup)
    return str(Path(folder.name) / "socket")


@implementer(IHalfCloseableProtocol, IHandshakeListener, IPushProducer)
class End(Protocol):
    """One end of a connection, and its story; what it hears in several pieces is told as one."""

    transport: Any

    def __init__(self) -> None:
        self.story: Story = []
        self.heard = bytearray()
        self.connected_at_all = self.over = False
        self.on_heard: Callable[[bytes], None] = lambda _: None

    def connectionMade(self) -> None:
        self.connected_at_all = True

    def handshakeCompleted(self) -> None:
        self.story.append("secured")

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        self.on_heard(data)

    def readConnectionLost(self) -> None:
        self.tell("has heard all")

    def writeConnectionLost(self) -> None:
        self.tell("has said all")

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.over = True
        self.tell(reason.type.__name__)  # type: ignore[union-attr]

    def pauseProducing(self) -> None:
        self.story.append("paused")

    def resumeProducing(self) -> None:
        self.story.append("resumed")

    def stopProducing(self) -> None:
        self.story.append("stopped")

    def tell(self, event: str) -> None:
        if self.heard:
            self.story.append(bytes(self.heard))
            self.heard.clear()
        self.story.append(event)


class Ends(ClientFactory[Any]):
    noisy = False

    def __init__(self) -> None:
        self.end: Any = End()
        self.failed: Failure | None = None
        self.address: Any = None

    def buildProtocol(self, addr: Any) -> End | None:
        self.address = addr
        return self.end

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self.failed = reason


class Reluctant:
    """Takes three octets, then none for a while, as a kernel without room does."""

    def __init__(self, kernel: Any) -> None:
        self.kernel, self.calls = kernel, 0

    def send(self, data: Any, flags: int = 0) -> int:
        self.calls += 1
        if self.calls == 2:
            raise BlockingIOError(errno.EWOULDBLOCK, "no room")
        return int(self.kernel.send(bytes(data)[:3]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kernel, name)


class Meeting:
    """A client and a server of one reactor, connected with each other."""

    def __init__(self, kind: Callable[[], Any], path: str | None, *, welcome: bool = True) -> None:
        self.real = RealReactor(kind)
        reactor = self.real.reactor
        self.callers, self.called = Ends(), Ends()
        self.client, self.server = self.callers.end, self.called.end
        if not welcome:
            self.called.end = None
        if path is None:
            self.port = reactor.listenTCP(0, self.called, interface="127.0.0.1")
            reactor.connectTCP("127.0.0.1", self.port.getHost().port, self.callers)
        else:
            self.port = reactor.listenUNIX(path, self.called)
            reactor.connectUNIX(path, self.callers)
        if welcome:
            self.until(lambda: self.client.connected_at_all and self.server.connected_at_all)

    def until(self, holds: Callable[[], bool]) -> None:
        self.real.until(holds)

    def turns(self, number: int = 5) -> None:
        for _ in range(number):
            self.real.turn()

    def over(self) -> tuple[Story, Story]:
        """When both ends are: their stories."""
        self.until(lambda: self.client.over and self.server.over)
        return self.client.story, self.server.story

    def all_heard_by_client(self) -> bytes:
        """When the server has gone; the client goes, too."""
        self.until(lambda: self.server.over and "has heard all" in self.client.story)
        self.client.transport.abortConnection()
        self.until(lambda: self.client.over)
        return b"".join(each for each in self.client.story if isinstance(each, bytes))

    def close(self) -> None:
        self.port.stopListening()
        self.turns(2)
        self.real.forget_timers()
        self.real.close()


Conversation = Callable[[Meeting], Any]


class Watched:
    """Something with a descriptor, and what the reactor has told it."""

    def __init__(self, descriptor: int) -> None:
        self.fileno = lambda: descriptor
        self.told: Story = []

    def doRead(self) -> None:
        self.told.append("there is something to read")

    def doWrite(self) -> None:
        self.told.append("there is room")

    def logPrefix(self) -> str:
        return "watched"

    def connectionLost(self, reason: Failure) -> None:
        self.told.append("lost")


class WatchingTests(SynchronousTestCase):
    @given(
        st.lists(
            st.sampled_from(["addReader", "addWriter", "removeReader", "removeWriter", "forget", "close", "turn"]),
            max_size=12,
        ),
        st.booleans(),
    )
    def test_what_is_watched_is_what_twisted_would_watch(self, steps: list[str], file: bool) -> None:
        """Of a socket with something to read, and of a file, which the kernel does not watch."""
        stories = []
        for kind in MonotonicReactor, LeanReactor:
            real = RealReactor(kind)
            ours, theirs = socket.socketpair()
            theirs.send(b"x")
            with tempfile.TemporaryFile() as on_disk, ours, theirs:
                watched = Watched(on_disk.fileno() if file else ours.fileno())
                story = []
                for step in steps:
                    if step == "turn":
                        real.reactor.iterate(0)
                    elif step == "close":
                        # As a connection that is lost does: behind it nobody knows the number any more.
                        real.reactor.forget(watched)
                        watched.fileno = lambda: -1
                        break
                    else:
                        getattr(real.reactor, step)(watched)
                    polled = real.reactor._continuousPolling
                    story.append((watched in real.reactor.getReaders(), watched in real.reactor.getWriters()))
                    story.append((polled.isReading(watched), polled.isWriting(watched)))
                real.reactor.removeReader(watched)
                real.reactor.removeWriter(watched)
                real.reactor.iterate(0)
                stories.append((story, watched.told, real.reactor._reads & {watched.fileno()}))
                real.reactor.removeAll()
                real.reactor._poller.close()
        self.assertEqual(stories[0], stories[1])


class BesideTwistedTests(SynchronousTestCase):
    """Each conversation goes over Twisted's transports and over ours, by TCP and by a Unix socket."""

    def compare(self, conversation: Conversation) -> Any:
        """What it came to, which is the same everywhere."""
        came = []
        for kind in (MonotonicReactor, PromptReactor, LeanReactor, RelayReactor):
            for path in (None, short_path(self)):
                meeting = Meeting(kind, path)
                try:
                    came.append(conversation(meeting))
                finally:
                    meeting.close()
                self.assertTrue(came[-1] == came[0], (kind, path, str(came)[:2000]))
        return came[0]

    def test_questions_and_answers(self) -> None:
        def conversation(meeting: Meeting) -> Any:
            client, server = meeting.client, meeting.server
            server.on_heard = lambda data: server.transport.write(data.upper())
            client.transport.write(b"noop\r\n")
            meeting.until(lambda: client.heard == b"NOOP\r\n")
            client.transport.write(b"rset\r\n")
            client.transport.writeSequence([b"data", b"\r\n"])
            meeting.until(lambda: client.heard == b"NOOP\r\nRSET\r\nDATA\r\n")
            client.transport.loseConnection()
            meeting.until(lambda: client.over and "has heard all" in server.story)
            return client.story, server.story

        client, server = self.compare(conversation)
        self.assertEqual(client, [b"NOOP\r\nRSET\r\nDATA\r\n", "ConnectionDone"])
        self.assertEqual(server, [b"noop\r\nrset\r\ndata\r\n", "has heard all"])

    def test_all_that_was_written_leaves_in_its_order_before_the_connection_closes(self) -> None:
        large = bytes(range(256)) * (MUCH // 256)

        def conversation(meeting: Meeting) -> Any:
            server = meeting.server
            for piece in (b"first", large, b"then", b"", b"last" * 100):
                server.transport.write(piece)
            server.transport.loseConnection()
            server.transport.write(b"late, and Twisted lets it through")
            heard = meeting.all_heard_by_client()
            server.transport.write(b"it is over")
            self.assertTrue(heard == b"first" + large + b"then" + b"last" * 100 + b"late, and Twisted lets it through")
            return len(heard), server.story

        self.assertEqual(self.compare(conversation)[1], ["ConnectionDone"])

    def test_a_peer_that_does_not_read_pauses_who_writes_and_reading_lets_it_go_on(self) -> None:
        def conversation(meeting: Meeting) -> Any:
            client, server = meeting.client, meeting.server
            client.transport.pauseProducing()
            server.transport.bufferSize = 100_000
            server.transport.registerProducer(server, True)
            server.transport.write(b"x" * AT_ONCE)
            meeting.turns()
            self.assertEqual(server.story, [])
            server.transport.write(b"x" * MUCH)
            meeting.turns()
            self.assertEqual(server.story, ["paused"])
            client.transport.resumeProducing()
            meeting.until(lambda: len(client.heard) == AT_ONCE + MUCH)
            meeting.turns()
            server.transport.unregisterProducer()
            server.transport.loseConnection()
            self.assertEqual(len(meeting.all_heard_by_client()), AT_ONCE + MUCH)
            return server.story

        self.assertEqual(self.compare(conversation), ["paused", "resumed", "ConnectionDone"])

    def test_a_producer_that_waits_to_be_asked_is_asked_again_and_again(self) -> None:
        @implementer(IPullProducer)
        class Pages:
            def __init__(self, transport: Any) -> None:
                self.transport, self.asked, self.deep = transport, 0, 0

            def resumeProducing(self) -> None:
                assert not self.deep, "asked from within its own write"
                self.deep += 1
                self.asked += 1
                if self.asked < 5:
                    self.transport.write(b"page %d." % self.asked)
                else:
                    self.transport.unregisterProducer()
                    self.transport.loseConnection()
                self.deep -= 1

            def stopProducing(self) -> None:
                raise AssertionError("it has gone by itself")

        def conversation(meeting: Meeting) -> Any:
            pages = Pages(meeting.server.transport)
            meeting.server.transport.registerProducer(pages, False)
            return meeting.all_heard_by_client(), meeting.server.story, pages.asked

        self.assertEqual(self.compare(conversation), (b"page 1.page 2.page 3.page 4.", ["ConnectionDone"], 5))

    def test_either_side_may_close_its_half_and_go_on_listening(self) -> None:
        def conversation(meeting: Meeting) -> Any:
            client, server = meeting.client, meeting.server
            client.transport.write(b"all that I have")
            client.transport.loseWriteConnection()
            client.transport.write(b", and this")
            meeting.until(lambda: "has heard all" in server.story)
            client.transport.write(b"nobody hears this")
            server.transport.write(b"I see")
            meeting.until(lambda: client.heard == b"I see")
            server.transport.loseConnection()
            meeting.all_heard_by_client()
            return client.story, server.story

        client, server = self.compare(conversation)
        self.assertEqual(server, [b"all that I have, and this", "has heard all", "ConnectionDone"])
        self.assertEqual(client[:3], ["has said all", b"I see", "has heard all"])

    def test_who_closes_when_it_has_heard_enough_is_lost_when_it_has_said_what_it_says(self) -> None:
        large = bytes(range(256)) * (MUCH // 256)

        def farewell(behind: bytes, abort: bool) -> Conversation:
            def conversation(meeting: Meeting) -> Any:
                client, server = meeting.client, meeting.server

                def quit(_: bytes) -> None:
                    server.transport.write(b"221 bye")
                    server.transport.loseConnection()
                    server.transport.write(behind)
                    server.transport.loseConnection()
                    if abort:
                        server.transport.abortConnection()
                    self.assertFalse(server.over)

                server.on_heard = quit
                client.transport.write(b"QUIT")
                if abort:
                    meeting.until(lambda: bool(server.over))
                    client.transport.abortConnection()
                    meeting.until(lambda: bool(client.over))
                    return server.story
                self.assertTrue(meeting.all_heard_by_client() == b"221 bye" + behind)
                return server.story

            return conversation

        for behind in (b"", b"late", large):
            self.assertEqual(self.compare(farewell(behind, False)), [b"QUIT", "ConnectionDone"])
        self.assertEqual(self.compare(farewell(b"", True)), [b"QUIT", "ConnectionAborted"])

    def test_an_aborted_connection_says_nothing_more_and_is_lost_in_another_turn(self) -> None:
        def conversation(meeting: Meeting) -> Any:
            client, server = meeting.client, meeting.server
            server.transport.abortConnection()
            server.transport.write(b"too late")
            self.assertFalse(server.over)
            server.transport.abortConnection()
            meeting.until(lambda: server.over)
            server.transport.write(b"much too late")
            meeting.until(lambda: bool(client.story))
            client.transport.abortConnection()
            meeting.until(lambda: client.over)
            return [each for each in client.story if isinstance(each, bytes)], server.story

        self.assertEqual(self.compare(conversation), ([], ["ConnectionAborted"]))

    def test_to_write_to_a_peer_that_has_gone_loses_the_connection_in_another_turn(self) -> None:
        def conversation(meeting: Meeting) -> Any:
            client, server = meeting.client, meeting.server
            server.transport.registerProducer(server, True)
            server.transport.stopReading()
            client.transport.abortConnection()
            meeting.until(lambda: client.over)
            for _ in range(3):
                if not server.over:
                    server.transport.write(b"are you there?")
                    self.assertFalse(server.over)
            meeting.until(lambda: server.over)
            server.transport.write(b"it is over")
            return client.story, server.story

        client, server = self.compare(conversation)
        self.assertEqual((client, server), (["ConnectionAborted"], ["stopped", "ConnectionLost"]))

    def test_who_does_not_want_to_read_hears_nothing(self) -> None:
        def conversation(meeting: Meeting) -> Any:
            client, server = meeting.client, meeting.server
            server.transport.pauseProducing()
            client.transport.write(b"hear me")
            meeting.turns()
            before, _ = bytes(server.heard), server.transport.resumeProducing()
            meeting.until(lambda: bool(server.heard))
            client.transport.loseConnection()
            meeting.until(lambda: client.over)
            return before, bytes(server.heard)

        self.assertEqual(self.compare(conversation), (b"", b"hear me"))

    def test_only_octets_are_written(self) -> None:
        def conversation(meeting: Meeting) -> Any:
            for words in ("text", bytearray(b"octets that may yet change")):
                self.assertRaises(TypeError, meeting.client.transport.write, words)
            return meeting.client.heard

        self.compare(conversation)

    def test_a_mistake_of_the_protocol_is_logged_and_ends_its_connection(self) -> None:
        def conversation(meeting: Meeting) -> Any:
            def fail(_: bytes) -> None:
                raise ZeroDivisionError("a mistake")

            client, server = meeting.client, meeting.server
            server.on_heard = fail
            client.transport.write(b"x")
            meeting.until(lambda: server.over)
            meeting.until(lambda: bool(client.story))
            client.transport.loseConnection()
            meeting.over()
            return server.story, len(self.flushLoggedErrors(ZeroDivisionError))

        self.assertEqual(self.compare(conversation), ([b"x", "ZeroDivisionError"], 1))

    def test_a_protocol_that_cannot_even_end_is_logged_too(self) -> None:
        def conversation(meeting: Meeting) -> Any:
            def fail(event: str) -> None:
                raise ZeroDivisionError(event)

            client, server = meeting.client, meeting.server
            server.tell = fail
            client.transport.abortConnection()
            meeting.until(lambda: client.over and server.over)
            logged = self.flushLoggedErrors(ZeroDivisionError)
            return bool(logged), meeting.real.reactor.getReaders().count(server.transport)

        self.assertEqual(self.compare(conversation), (True, 0))


class AtOnceTests(SynchronousTestCase):
    """What is particular to ours."""

    def meet(self, path: str | None = None, **how: Any) -> Meeting:
        meeting = Meeting(RelayReactor, path, **how)
        self.addCleanup(meeting.close)
        return meeting

    def test_what_is_written_has_left_before_the_turn_is_over(self) -> None:
        for path, kinds in (
            (None, (PromptServer, PromptClient)),
            (short_path(self), (PromptUnixServer, PromptUnixClient)),
        ):
            meeting = self.meet(path)
            server, client = meeting.server, meeting.client
            self.assertEqual((type(server.transport), type(client.transport)), kinds)
            server.transport.write(b"220 mx\r\n")
            self.assertEqual(client.transport.getHandle().recv(100, socket.MSG_PEEK), b"220 mx\r\n")
            self.assertEqual(meeting.real.reactor.getWriters(), [])

    def test_nothing_waits_for_an_acknowledgement(self) -> None:
        meeting = self.meet()
        for end in (meeting.client, meeting.server):
            end.transport.setTcpNoDelay(True)
            self.assertTrue(end.transport.getTcpNoDelay())
            end.transport.setTcpNoDelay(False)
            self.assertFalse(end.transport.getTcpNoDelay())

    def test_what_a_client_says_first_is_acknowledged_by_the_answer_to_it(self) -> None:
        acknowledges = self.meet().server.transport.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK)
        self.assertEqual(acknowledges, 0)

    def test_large_pieces_wait_their_turn(self) -> None:
        meeting = self.meet()
        meeting.server.transport.write(b"x" * (AT_ONCE + 1))
        self.assertRaises(BlockingIOError, meeting.client.transport.getHandle().recv, 100, socket.MSG_PEEK)
        meeting.until(lambda: len(meeting.client.heard) == AT_ONCE + 1)

    def test_a_large_piece_leaves_as_a_whole_as_far_as_there_is_room_for_it(self) -> None:
        offered: list[int] = []

        class Roomy:
            """Takes all of it."""

            def __init__(self, kernel: Any) -> None:
                self.kernel = kernel

            def send(self, data: Any) -> int:
                offered.append(len(data))
                return len(data)

            def __getattr__(self, name: str) -> Any:
                return getattr(self.kernel, name)

        meeting = self.meet()
        transport = meeting.server.transport
        transport.socket = Roomy(transport.socket)
        transport.write(b"x" * 10**6)
        meeting.until(lambda: bool(offered))
        self.assertEqual(offered, [10**6])

    def test_so_much_is_read_at_once_as_somebody_has_asked_for(self) -> None:
        meeting = self.meet()
        heard: list[int] = []
        meeting.server.on_heard = lambda data: heard.append(len(data))
        meeting.server.transport.readSize = 100
        meeting.client.transport.write(b"x" * 250)
        meeting.until(lambda: sum(heard) == 250)
        self.assertEqual(heard, [100, 100, 50])

    def test_who_closes_when_it_has_heard_enough_does_not_wait_for_another_turn(self) -> None:
        meeting = self.meet()
        client, server = meeting.client, meeting.server

        def quit(_: bytes) -> None:
            server.transport.write(b"221 bye")
            server.transport.loseConnection()
            self.assertTrue(server.transport.parting)

        server.on_heard = quit
        names: Counter[str] = Counter()
        client.transport.write(b"QUIT")
        calls_of(lambda: meeting.until(lambda: server.over), by_name=names)
        self.assertEqual(names["epoll.poll"], 1)
        self.assertEqual(names["epoll.modify"], 0)

    def test_a_client_that_has_said_more_than_was_heard_still_reads_all_replies_and_then_the_end(self) -> None:
        """Without a shutdown before it is closed a reset would follow, and many clients forget the replies by it."""
        meeting = self.meet()
        client, server = meeting.client, meeting.server

        def refuse(_: bytes) -> None:
            server.transport.write(b"554 bye")
            server.transport.loseConnection()

        server.on_heard, server.transport.readSize = refuse, 4
        client.transport.stopReading()
        client.transport.getHandle().send(b"RCPT" + b"x" * 1000)
        meeting.until(lambda: server.over)
        handle = client.transport.getHandle()
        handle.setblocking(True)
        self.assertEqual([handle.recv(100), handle.recv(100)], [b"554 bye", b""])

    def test_what_is_said_last_and_the_end_leave_together(self) -> None:
        """And a client that has said more than was heard reads both all the same."""
        for said in b"QUIT", b"QUIT" + b"x" * 1000:
            meeting = self.meet()
            client, server = meeting.client, meeting.server
            seen: list[bytes] = []

            def quit(_: bytes, meeting: Meeting = meeting, seen: list[bytes] = seen) -> None:
                transport, handle = meeting.server.transport, meeting.client.transport.getHandle()
                transport.registerProducer(meeting.server, True)
                transport.writeLast(b"221 bye")
                self.assertTrue(transport.parting)
                try:
                    seen.append(handle.recv(100, socket.MSG_PEEK))
                except BlockingIOError:
                    seen.append(b"nothing yet")

            server.on_heard, server.transport.readSize = quit, 4
            client.transport.stopReading()
            client.transport.getHandle().send(said)
            meeting.until(lambda server=server: server.over)  # type: ignore[misc]
            handle = client.transport.getHandle()
            handle.setblocking(True)
            self.assertEqual([*seen, handle.recv(100), handle.recv(100)], [b"nothing yet", b"221 bye", b""])

    def test_what_is_said_last_leaves_whatever_is_in_its_way(self) -> None:
        for reluctant in False, True:
            for before in b"", b"250 ok ":
                for at_work in False, True:
                    meeting = self.meet()
                    server, transport = meeting.server, meeting.server.transport
                    transport.registerProducer(server, True)
                    if reluctant:
                        transport.socket = Reluctant(transport.socket)

                    def quit(_: bytes, transport: Any = transport, before: bytes = before) -> None:
                        if before:
                            transport.write(before)
                        transport.writeLast(b"221 bye")

                    server.on_heard = quit
                    if at_work:
                        meeting.client.transport.write(b"QUIT")
                    else:
                        quit(b"")
                    self.assertEqual(meeting.all_heard_by_client(), before + b"221 bye")

    def test_it_does_wait_while_something_of_it_has_not_left(self) -> None:
        meeting = self.meet()
        transport = meeting.server.transport
        transport.socket = Reluctant(transport.socket)

        def quit(_: bytes) -> None:
            transport.write(b"221 bye")
            transport.loseConnection()
            # Whoever looks at this knows that it may take a while.
            self.assertFalse(transport.parting)

        meeting.server.on_heard = quit
        meeting.client.transport.write(b"QUIT")
        meeting.until(lambda: meeting.server.over and "has heard all" in meeting.client.story)
        self.assertEqual(meeting.client.story, [b"221 bye", "has heard all"])
        meeting.client.transport.abortConnection()

    def test_nor_is_anything_lost_that_the_kernel_had_no_room_for_before(self) -> None:
        meeting = self.meet()
        transport = meeting.server.transport
        transport.socket = Reluctant(transport.socket)
        transport.write(b"250 ok")
        meeting.until(lambda: transport.socket.calls == 2)
        # It has tried again, in vain.
        transport.stopWriting()
        meeting.server.on_heard = lambda _: transport.loseConnection()
        meeting.client.transport.write(b"QUIT")
        meeting.until(lambda: meeting.server.over and "has heard all" in meeting.client.story)
        self.assertEqual(meeting.client.story, [b"250 ok", "has heard all"])
        self.assertFalse(transport.parting)
        meeting.client.transport.abortConnection()

    def test_a_question_and_its_answer_cost_few_calls(self) -> None:
        meeting = self.meet()
        client, server = meeting.client, meeting.server
        server.on_heard = lambda data: server.transport.write(data)
        client.transport.write(b"noop\r\n")
        names: Counter[str] = Counter()
        calls_of(meeting.real.turn, by_name=names)
        meeting.turns()
        self.assertEqual(client.heard, b"noop\r\n")
        self.assertNotIn("log.py callWithLogger", names)
        self.assertLessEqual(sum(names[name] for name in ("epoll.poll", "socket.send", "socket.recv")), 3)
        self.assertLessEqual(names.total(), 25)

    def test_what_the_kernel_does_not_take_follows(self) -> None:
        meeting = self.meet()
        transport = meeting.server.transport
        transport.socket = Reluctant(transport.socket)
        transport.write(b"250 ok\r\n")
        meeting.until(lambda: transport.socket.calls == 2)
        transport.write(b"354 go ahead\r\n")
        meeting.until(lambda: meeting.client.heard == b"250 ok\r\n354 go ahead\r\n")
        transport.write(b"now")
        meeting.until(lambda: meeting.client.heard.endswith(b"now"))

    def test_who_has_written_at_once_is_held_up_by_what_comes_later(self) -> None:
        meeting = self.meet()
        transport = meeting.server.transport
        transport.write(b"250 ok\r\n")
        # A sequence is buffered, and nothing overtakes it.
        transport.writeSequence([b"250-", b"mx\r\n"])
        transport.write(b"250 PIPELINING\r\n")
        self.assertTrue(transport._tempDataLen)
        meeting.until(lambda: meeting.client.heard == b"250 ok\r\n250-mx\r\n250 PIPELINING\r\n")
        transport.write(b"354 go\r\n")
        self.assertFalse(transport._tempDataLen)

        # Who is to be asked for more is asked in another turn.
        @implementer(IPullProducer)
        class Page:
            asked = 0

            def resumeProducing(self) -> None:
                self.asked += 1
                if self.asked == 1:
                    transport.write(b"page")
                else:
                    transport.unregisterProducer()

            def stopProducing(self) -> None:
                pass

        page = Page()
        transport.registerProducer(page, False)
        self.assertEqual((page.asked, bool(transport._tempDataLen)), (1, True))
        meeting.until(lambda: page.asked == 2)
        transport.write(b", last")
        self.assertFalse(transport._tempDataLen)
        transport.abortConnection()
        real = transport.socket
        transport.socket = refused = Reluctant(real)
        transport.write(b"too late")
        transport.socket = real
        self.assertEqual(refused.calls, 0)
        meeting.until(lambda: meeting.server.over)

    def test_a_connection_can_say_who_it_is(self) -> None:
        meeting = self.meet()
        transport = meeting.server.transport
        port = meeting.port.getHost().port
        self.assertEqual(repr(transport), f"<End #0 on {port}>")
        self.assertEqual(transport.logPrefix(), "End,0,127.0.0.1")
        self.assertEqual(transport.getPeer(), IPv4Address("TCP", *meeting.client.transport.getHandle().getsockname()))
        self.assertEqual(meeting.called.address, transport.getPeer())
        meeting.client.transport.abortConnection()
        meeting.until(lambda: meeting.server.over)
        self.assertEqual(transport.logPrefix(), "-,0,127.0.0.1")

    def test_a_factory_that_wants_no_address_of_twisteds_is_told_where_the_client_is(self) -> None:
        came: list[tuple[str, int]] = []
        ends = Ends()

        class Welcoming(Factory):
            def welcome(self, host: str, port: int) -> End | None:
                came.append((host, port))
                return ends.end if len(came) == 1 else None

        real = RealReactor(RelayReactor)
        listening = real.reactor.listenTCP(0, Welcoming(), interface="127.0.0.1")
        with socket.socket() as first, socket.socket() as second:
            for client in first, second:
                client.connect(("127.0.0.1", listening.getHost().port))
            real.until(lambda: len(came) == 2)
            self.assertEqual(came, [first.getsockname(), second.getsockname()])
            self.assertTrue(ends.end.connected_at_all)
            self.assertEqual(second.recv(1), b"")
        real.until(lambda: "has heard all" in ends.end.story)
        ends.end.transport.loseConnection()
        listening.stopListening()
        real.until(lambda: ends.end.over)
        real.close()

    def test_who_is_not_wanted_is_closed(self) -> None:
        meeting = self.meet(welcome=False)
        meeting.until(lambda: "has heard all" in meeting.client.story)
        meeting.client.transport.loseConnection()

    def test_where_nobody_listens_nobody_is_met(self) -> None:
        meeting = self.meet()
        callers = Ends()
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            meeting.real.reactor.connectTCP("127.0.0.1", nobody.getsockname()[1], callers)
            meeting.until(lambda: callers.failed is not None)
        assert callers.failed is not None
        callers.failed.trap(ConnectionRefusedError)
        meeting.client.transport.abortConnection()
        meeting.until(lambda: meeting.client.over)
        self.assertEqual(meeting.client.story, [ConnectionAborted.__name__])

    def test_by_version_6_and_on_a_socket_that_others_have_opened(self) -> None:
        meeting = self.meet()
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family) as opened:
                opened.bind((host, 0))
                opened.listen(5)
                opened.setblocking(False)
                called, callers = Ends(), Ends()
                port = meeting.real.reactor.adoptStreamPort(opened.fileno(), family, called)
                meeting.real.reactor.connectTCP(host, opened.getsockname()[1], callers)
                server = called.end
                meeting.until(lambda server=server: server.connected_at_all)
                self.assertEqual(called.address.host, host)
                self.assertEqual(type(server.transport), PromptServer)
                self.assertEqual(server.transport.getHost().host, host)
                port.stopListening()
                server.transport.abortConnection()
                meeting.until(lambda callers=callers: bool(callers.end.story))
                callers.end.transport.loseConnection()
        path = short_path(self)
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(path)
            opened.listen(5)
            opened.setblocking(False)
            called = Ends()
            port = meeting.real.reactor.adoptStreamPort(opened.fileno(), socket.AF_UNIX, called)
            meeting.real.reactor.connectUNIX(path, Ends())
            server = called.end
            meeting.until(lambda: server.connected_at_all)
            self.assertEqual(type(server.transport), PromptUnixServer)
            self.assertEqual(server.transport.getHost(), UNIXAddress(path))
            port.stopListening()
            server.transport.abortConnection()
            meeting.turns()


class TlsTests(TlsTestCase):
    def test_behind_starttls_all_is_as_before_but_that_nobody_else_can_read_it(self) -> None:
        came = []
        for kind in (MonotonicReactor, RelayReactor):
            meeting = Meeting(kind, None)
            self.patch(tls, "_get_default_clock", lambda meeting=meeting: meeting.real.reactor)
            try:
                came.append(self.conversation(meeting))
            finally:
                meeting.close()
        self.assertEqual(came[0], came[1])

    def conversation(self, meeting: Meeting) -> Any:
        client, server = meeting.client, meeting.server
        server.transport.registerProducer(server, True)
        server.transport.startTLS(self.listener("mx.example.org"))
        client.transport.startTLS(self.tls("verify").toward("mx.example.org"))
        meeting.until(lambda: "secured" in client.story and "secured" in server.story)
        server.on_heard = lambda data: server.transport.write(data.upper())
        client.transport.write(b"noop")
        client.transport.writeSequence([b"\r", b"\n"])
        client.transport.write(b"rset\r\n")
        meeting.until(lambda: client.heard == b"NOOP\r\nRSET\r\n")
        server.on_heard = lambda _: None
        server.transport.writeSequence([b"x" * MUCH, b"y"])
        server.transport.unregisterProducer()
        server.transport.loseConnection()
        meeting.until(lambda: client.over and server.over)
        client.story = [each if isinstance(each, str) else (len(each), each[-1:]) for each in client.story]
        return client.story, [each for each in server.story if each not in ("paused", "resumed")]

    def test_what_is_encrypted_leaves_before_the_turn_is_over(self) -> None:
        meeting = Meeting(RelayReactor, None)
        self.addCleanup(meeting.close)
        client, server = meeting.client, meeting.server
        server.transport.startTLS(self.listener("mx.example.org"))
        client.transport.startTLS(self.tls("verify").toward("mx.example.org"))
        meeting.until(lambda: "secured" in client.story and "secured" in server.story)
        meeting.turns()
        reads = client.transport.socket
        for words in (b"220 mx\r\n", b"250 ok\r\n"):
            server.transport.write(words)
            self.assertEqual(reads.recv(1, socket.MSG_PEEK), b"\x17")  # application data (RFC 8446 section 5.1)
            meeting.until(lambda words=words: client.heard.endswith(words))
        for end in (client, server):
            end.transport.abortConnection()
        meeting.until(lambda: client.over and server.over)
        server.transport.write(b"it is over")
        server.transport.writeSequence([b"it is", b"over"])

    def test_its_records_leave_at_once_too(self) -> None:
        meeting = Meeting(RelayReactor, None)
        self.addCleanup(meeting.close)
        client = meeting.client
        client.transport.startTLS(self.tls("verify").toward("mx.example.org"))
        self.assertEqual(meeting.real.reactor.getWriters(), [])
        hello = meeting.server.transport.getHandle().recv(3, socket.MSG_PEEK)
        self.assertEqual(hello[:1], b"\x16")  # a handshake (RFC 8446 section 5.1)
        client.transport.abortConnection()

    def test_to_begin_costs_half_of_the_calls_that_twisted_makes(self) -> None:
        took = []
        for kind in (MonotonicReactor, RelayReactor):
            for _ in ("what is done once", "what is done each time"):
                meeting = Meeting(kind, None)
                self.patch(tls, "_get_default_clock", lambda meeting=meeting: meeting.real.reactor)
                listener, transport = self.listener("mx.example.org"), meeting.server.transport
                calls = calls_of(lambda transport=transport, listener=listener: transport.startTLS(listener))
                self.assertTrue(ISSLTransport.providedBy(transport))
                transport.abortConnection()
                meeting.close()
            took.append(calls)
        stock, ours = took
        self.assertLess(ours, stock / 2)


class SwitchTests(SynchronousTestCase):
    def test_each_short_way_can_be_taken_back(self) -> None:
        for environment, kind in (
            ({}, RelayReactor),
            ({"RELAY_TRANSPORTS": "stock"}, LeanReactor),
            ({"RELAY_POLLING": "stock"}, PromptReactor),
            ({"RELAY_TRANSPORTS": "stock", "RELAY_POLLING": "stock"}, MonotonicReactor),
            ({"RELAY_TRANSPORTS": "prompt"}, RelayReactor),
        ):
            self.assertIs(kind_of_reactor(environment), kind)
