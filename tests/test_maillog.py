from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from relay.interfaces import IMailLog
from relay.mail.address import Address
from relay.mail.event import ACCEPTED, DELIVERED, DISCARDED, HELD, RELAYED, Event, shape_of
from relay.mail.reply import Reply
from relay.net import harmless_lines, maillog
from relay.net.harmless_lines import USUAL
from relay.net.logline import LONGEST, json_lines, plain_json_lines, plain_text_lines, text_lines
from relay.net.maillog import EVENTS, MailLog
from relay.testing.disk import FaultyDisk
from relay.testing.maillog import Event as Noted
from relay.testing.maillog import MemoryMailLog

#: 2026-11-23T01:28:37.123Z
NOW = 1795397317.1234
DOCS = Path(__file__).parents[1] / "docs"


def event(when: float, what: str, fields: dict[str, object]) -> Event:
    return when, shape_of(what, fields), tuple(fields.values())


def text(**fields: object) -> str:
    """The fields of a line."""
    line = text_lines()(*event(NOW, "accepted", fields))
    return line.removeprefix("2026-11-23T01:28:37.123Z accepted").removesuffix("\n")


def words(line: str) -> dict[str, str]:
    """What a reader of the log makes of a line."""
    found = re.findall(r' ([a-z_]+)=("(?:[^"\\]|\\.)*"|[^ ]*)', line)
    return dict(found)


class TextTests(SynchronousTestCase):
    def test_a_line_is_time_event_and_fields(self) -> None:
        self.assertEqual(
            text_lines()(
                *event(NOW, "accepted", {"id": "4Q2x7", "sender": Address("ann", "example.org"), "size": 1234})
            ),
            "2026-11-23T01:28:37.123Z accepted id=4Q2x7 sender=<ann@example.org> size=1234\n",
        )

    def test_lines_of_one_second_and_of_the_next(self) -> None:
        line = text_lines()
        times = [line(when, shape_of("x", ()), ()).split()[0] for when in (0.0, 0.9999, 1.0, 59.5, 60.25)]
        self.assertEqual([time[17:] for time in times], ["00.000Z", "00.999Z", "01.000Z", "59.500Z", "00.250Z"])

    def test_what_says_nothing_is_left_out(self) -> None:
        self.assertEqual(text(a=None, b="", c=(), d=0, e=False), " d=0 e=no")

    def test_a_value_with_blanks_is_quoted(self) -> None:
        self.assertEqual(text(reply=Reply.of(550, "5.1.1", "user unknown")), ' reply="550 5.1.1 user unknown"')

    def test_a_quote_and_a_backslash_are_escaped(self) -> None:
        self.assertEqual(text(a='say "hi"', b="a\\b"), r' a="say \"hi\"" b="a\\b"')

    def test_an_address_that_needs_quotes_gets_them_twice(self) -> None:
        self.assertEqual(text(sender=Address("a b", "x")), r' sender="<\"a b\"@x>"')

    def test_no_value_can_end_the_line_or_pass_for_another_field(self) -> None:
        self.assertEqual(text(helo="x\r\n2026 failed id=1"), r' helo="x\r\n2026 failed id=1"')
        self.assertEqual(text(helo="\x1b[2J\u202e\x9b\0"), r' helo="\x1b[2J\u202e\x9b\x00"')

    @given(st.dictionaries(st.sampled_from(["id", "helo", "reply"]), st.text(min_size=1)))
    def test_whatever_peers_say_there_are_as_many_fields_as_there_were(self, fields: dict[str, Any]) -> None:
        line = text(**fields)
        self.assertEqual(list(words(line)), list(fields))
        self.assertTrue(line.isprintable())

    def test_letters_that_are_not_ascii_stay(self) -> None:
        self.assertEqual(text(sender=Address("jörg", "example.org")), " sender=<jörg@example.org>")

    def test_a_long_value_is_cut(self) -> None:
        for value in "x" * 100_000, "x y" * 100_000:
            self.assertLess(len(text(reply=value)), LONGEST + 20)
            self.assertIn("...", text(reply=value))

    def test_numbers_and_several_values(self) -> None:
        self.assertEqual(text(age=12.5, whole=3.0, yes=True), " age=12.5 whole=3 yes=yes")
        self.assertEqual(text(to=[Address("a", "x"), Address("b", "y")]), " to=<a@x>,<b@y>")


#: Values as events have them, and as peers would like them to be.
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.text(st.sampled_from('ab "=\\\n<>é\x7f')),
    st.builds(Address, st.text(st.sampled_from('ab "\\'), min_size=1), st.just("example.org")),
    st.lists(st.sampled_from(["a", "b c", 'd"'])),
    st.sampled_from(["x" * LONGEST, "x" * (LONGEST + 1), "x y" * LONGEST]),
)
FIELDS = st.dictionaries(st.sampled_from(["id", "helo", "reply", "to", "age", "size"]), VALUES)


WAYS = ((plain_text_lines, text_lines), (plain_json_lines, json_lines))


class TogetherTests(SynchronousTestCase):
    @given(st.lists(st.tuples(st.sampled_from([0.0, NOW, NOW + 1.5]), st.just("accepted"), FIELDS), max_size=5))
    def test_lines_that_are_made_together_are_those_that_are_made_one_by_one(self, told: list[Any]) -> None:
        events = [event(*each) for each in told]
        for all_at_once, each in WAYS:
            together, one = all_at_once()(events), each()
            if together is not None:
                self.assertEqual(together.decode(), "".join(one(*each) for each in events))

    def test_usual_events_are_made_together(self) -> None:
        fields = {"id": "4Q2x7", "to": Address("bob", "x"), "text": "250 2.0.0 Ok", "age": 0.1, "size": 5, "user": None}
        events = [event(NOW, "accepted", fields), event(NOW + 1, "relayed", fields), event(NOW + 1, "relayed", {})]
        for all_at_once, _ in WAYS:
            self.assertIsNotNone(all_at_once()(events))

    def test_whatever_else_a_value_is_the_lines_are_the_same(self) -> None:
        class Word(str):
            def __str__(self) -> str:
                return "two words"

        odd = [True, False, 0, 0.0, -0.0, 2.0005, 1e30, float("inf"), [], ["a", Address("b", "x")], ["a b"], Word("x")]
        for all_at_once, each in WAYS:
            for value in odd:
                told = event(NOW, "accepted", {"id": "4Q2x7", "helo": value, "text": "last one"})
                made = all_at_once()([told])
                if made is not None:
                    self.assertEqual(made.decode(), each()(*told), value)

    def test_what_has_to_be_escaped_or_cut_is_made_by_itself(self) -> None:
        for value in 'a"b', 'a" b', "a\\b", "a\nb", "a\nb c", "é", "\x7f", "x" * LONGEST, Address("a b", "x"):
            for all_at_once, _ in WAYS:
                self.assertIsNone(all_at_once()([event(NOW, "accepted", {"helo": value})]), value)


#: What stands in most lines, and what must not look like something else there.
WORDS = st.text(st.sampled_from('aB@. "=\\\n<>é'), max_size=4) | st.sampled_from(["x", "250 2.0.0 Ok", "x" * LONGEST])
SOMETHING = WORDS.filter(bool)
PATHS = st.builds(Address, st.text(st.sampled_from('ab "\\'), min_size=1), st.just("example.org"))
ROWS = st.one_of(
    st.tuples(
        st.just(ACCEPTED),
        st.tuples(
            *(SOMETHING, PATHS | st.just("<>"), st.integers(0, 9), SOMETHING, st.integers(0, 9), WORDS),
            *(st.none() | WORDS, WORDS, WORDS, st.none() | WORDS, st.none() | WORDS, WORDS),
        ),
    ),
    st.tuples(
        st.sampled_from([DELIVERED, RELAYED]),
        st.tuples(
            *(SOMETHING, PATHS, SOMETHING, st.none() | PATHS, WORDS, WORDS, WORDS),
            *(st.integers(0, 9), st.integers(-(10**10), 10**10).map(lambda tenths: tenths / 10)),
        ),
    ),
    st.tuples(st.sampled_from([DISCARDED, HELD]), st.tuples(SOMETHING, PATHS, st.none() | PATHS, WORDS, WORDS)),
)
BARE = st.text(st.sampled_from("aB@=<>"), min_size=1, max_size=4)


class UsualTests(SynchronousTestCase):
    """What happens to each message."""

    @given(st.lists(ROWS, min_size=1, max_size=3))
    def test_lines_of_known_shapes_are_those_that_are_made_of_names_and_values(self, told: list[Any]) -> None:
        for all_at_once, each in WAYS:
            events = [(NOW, shape, row) for shape, row in told]
            together, one = all_at_once()(events), each()
            if together is not None:
                self.assertEqual(together.decode(), "".join(one(*each) for each in events))

    @given(st.lists(BARE, min_size=6, max_size=6), *[st.sampled_from(["", "x"])] * 3)
    def test_they_are_made_at_once_where_nothing_has_to_be_quoted(
        self, bare: list[str], message_id: str, user: str, tls: str
    ) -> None:
        self.patch(harmless_lines, "written", None)
        id, to, client, helo, listener, by = bare
        ann = Address("ann", "x")
        accepted: Any = (id, ann, 1, to, 5, message_id, client, helo, listener, user or None, tls or None, "")
        carried: Any = (id, ann, to, ann if user else None, by, "250 Ok" if message_id else "", tls, 1, 0.1)
        held: Any = (id, ann, ann if user else None, by, "in quarantine" if message_id else "")
        told = (ACCEPTED, accepted), (ACCEPTED, (id, "<>", *accepted[2:])), (RELAYED, carried), (HELD, held)
        for shape, row in told:
            said, quotes = USUAL[shape](shape, row)
            self.assertEqual(f"2026-11-23T01:28:37.123Z {said}\n", text_lines()(NOW, shape, row))
            self.assertEqual(quotes, said.count('"'))


class JsonTests(SynchronousTestCase):
    def line(self, **fields: object) -> str:
        return json_lines()(*event(NOW, "accepted", fields))

    def test_a_line_is_an_object_with_time_and_event_first(self) -> None:
        self.assertEqual(
            self.line(id="4Q2x7", sender=Address("ann", "example.org"), size=5, age=1.5, tls=True),
            '{"time":"2026-11-23T01:28:37.123Z","event":"accepted","id":"4Q2x7","sender":"ann@example.org",'
            '"size":5,"age":1.5,"tls":true}\n',
        )

    def test_what_says_nothing_is_left_out(self) -> None:
        self.assertEqual(list(json.loads(self.line(a=None, b="", c=()))), ["time", "event"])

    @given(st.text(min_size=1))
    def test_whatever_peers_say_it_is_one_line_of_ascii(self, value: str) -> None:
        line = self.line(helo=value)
        self.assertTrue(line.isascii())
        self.assertEqual(line.count("\n"), 1)
        told = json.loads(line)["helo"]
        self.assertEqual(told, value if len(value) <= LONGEST else value[:LONGEST] + "...")

    def test_several_values_are_a_list(self) -> None:
        self.assertEqual(json.loads(self.line(to=(Address("a", "x"),)))["to"], ["a@x"])


class MailLogCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        self.file = self.root / "mail.log"
        self.clock = Clock()
        self.said: list[str] = []
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)

    def observe(self, event: Any) -> None:
        if event.get("log_namespace") == "relay.maillog":
            self.said.append(event["log_level"].name)

    def log(
        self, where: Path | Literal["-"] | None = None, disk: Any = None, format: Literal["text", "json"] = "text"
    ) -> MailLog:
        log = MailLog(self.clock, where or self.file, format, calendar=lambda: NOW, disk=disk)
        log.start()
        self.addCleanup(log.close)
        return log

    def turn(self) -> None:
        """The reactor goes round once."""
        self.clock.advance(0)

    def lines(self, path: Path | None = None) -> list[str]:
        """The lines without their times."""
        return [line[25:] for line in (path or self.file).read_text().splitlines()]


class WritingTests(MailLogCase):
    def test_both_logs_keep_the_contract(self) -> None:
        self.assertTrue(verifyObject(IMailLog, self.log()))
        self.assertTrue(verifyObject(IMailLog, MemoryMailLog()))

    def test_events_of_one_turn_are_one_write_and_in_order(self) -> None:
        disk = FaultyDisk()
        log = self.log(disk=disk)
        for id in "a", "b", "c":
            log.event("accepted", id=id)
        self.assertEqual(self.lines(), [])
        self.turn()
        self.assertEqual(self.lines(), ["accepted id=a", "accepted id=b", "accepted id=c"])
        self.assertEqual(disk.names.count("write"), 1)

    def test_events_of_one_turn_have_one_time_and_those_of_the_next_another(self) -> None:
        times = iter([1.0, 2.0, 3.0])
        log = MailLog(self.clock, self.file, calendar=lambda: next(times))
        log.start()
        self.addCleanup(log.close)
        for _ in range(2):
            log.event("accepted")
            log.event("relayed")
            self.turn()
        seconds = [line.split()[0][17:] for line in self.file.read_text().splitlines()]
        self.assertEqual(seconds, ["01.000Z", "01.000Z", "02.000Z", "02.000Z"])

    def test_one_line_that_has_to_be_escaped_leaves_the_others_as_they_are(self) -> None:
        log = self.log()
        for id in "a", 'b"', "c":
            log.event("accepted", id=id)
        self.turn()
        self.assertEqual(self.lines(), ["accepted id=a", r'accepted id="b\""', "accepted id=c"])

    def test_a_turn_without_events_writes_nothing(self) -> None:
        disk = FaultyDisk()
        self.log(disk=disk)
        self.turn()
        self.assertNotIn("write", disk.names)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_it_is_appended_to_what_is_there_and_others_cannot_read_it(self) -> None:
        self.addCleanup(os.umask, os.umask(0o022))
        for id in "a", "b":
            log = self.log()
            log.event("accepted", id=id)
            log.close()
        self.assertEqual(self.lines(), ["accepted id=a", "accepted id=b"])
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o640)

    def test_its_directory_is_made(self) -> None:
        self.log(self.root / "var" / "log" / "mail.log")
        self.assertTrue((self.root / "var" / "log" / "mail.log").exists())

    def test_what_happened_before_it_was_opened_is_not_lost(self) -> None:
        log = MailLog(self.clock, self.file)
        log.event("accepted", id="a")
        self.turn()
        log.start()
        self.assertEqual(self.lines(), ["accepted id=a"])
        log.close()

    def test_it_may_be_json(self) -> None:
        log = self.log(format="json")
        log.event("relayed", id="a")
        log.close()
        self.assertEqual(json.loads(self.file.read_text())["event"], "relayed")

    def test_a_value_that_cannot_be_shown_costs_its_own_line_only(self) -> None:
        class Bad:
            def __str__(self) -> str:
                raise RuntimeError("no")

        log = self.log()
        log.event("accepted", id="a")
        log.event("accepted", id=Bad())
        log.event("accepted", id="\ud800")
        self.turn()
        self.assertEqual(self.lines(), ["accepted id=a", r'accepted id="\ud800"'])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_a_file_that_cannot_be_opened_is_an_error_at_the_start(self) -> None:
        with self.assertRaises(OSError):
            MailLog(self.clock, self.root).start()

    def test_standard_output(self) -> None:
        program = (
            "from twisted.internet.task import Clock\n"
            "from relay.net.maillog import MailLog\n"
            "log = MailLog(Clock(), '-')\n"
            "log.start()\n"
            "for n in range(3000): log.event('accepted', id=n)\n"
            "log.close()\n"
        )
        ran = subprocess.Popen([sys.executable, "-c", program], cwd=DOCS.parent, stdout=subprocess.PIPE, text=True)
        # It ends although nobody reads what it says, which is more than a pipe takes.
        self.assertEqual(ran.wait(60), 0)
        lines = ran.communicate()[0].splitlines()
        self.assertTrue(lines[0].endswith("Z accepted id=0"), lines[0])
        self.assertGreater(len(lines), 100)


class ReopenTests(MailLogCase):
    def test_after_the_file_was_moved_away_a_new_one_is_written(self) -> None:
        log = self.log()
        log.event("accepted", id="a")
        old = self.file.rename(self.root / "mail.log.1")
        log.event("accepted", id="b")
        descriptors = os.listdir("/proc/self/fd")
        log.reopen()
        self.assertEqual(len(os.listdir("/proc/self/fd")), len(descriptors))
        log.event("accepted", id="c")
        self.turn()
        self.assertEqual(self.lines(old), ["accepted id=a", "accepted id=b"])
        self.assertEqual(self.lines(), ["accepted id=c"])

    def test_if_there_can_be_no_new_one_the_old_one_is_written(self) -> None:
        log = self.log()
        old = self.file.rename(self.root / "mail.log.1")
        self.file.mkdir()
        log.reopen()
        log.event("accepted", id="a")
        self.turn()
        self.assertEqual(self.lines(old), ["accepted id=a"])
        self.assertEqual(self.said, ["error"])


class FullDiskTests(MailLogCase):
    def test_lines_wait_and_are_written_when_there_is_room_again(self) -> None:
        disk = FaultyDisk(3, errno.ENOSPC, stays=True)
        log = self.log(disk=disk)
        self.assertEqual(disk.names, ["open", "fstat"])
        log.event("accepted", id="a")
        self.turn()
        log.event("accepted", id="b")
        self.turn()
        self.clock.advance(5)
        self.assertEqual(self.said, ["error"])
        disk.heal()
        self.file.write_bytes(b"")  # the half line of a disk that takes half a write
        self.clock.advance(1)
        self.assertEqual(self.lines(), ["accepted id=a", "accepted id=b"])
        self.assertEqual(self.said, ["error", "info"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        disk.struck = True
        log.event("accepted", id="c")
        self.turn()
        self.assertEqual(self.said, ["error", "info", "error"])

    def test_a_terminal_that_takes_nothing_at_the_moment_is_no_trouble(self) -> None:
        disk = FaultyDisk(3, errno.EAGAIN, stays=True)
        log = self.log(disk=disk)
        log.event("accepted", id="a")
        self.turn()
        disk.heal()
        self.file.write_bytes(b"")
        self.clock.advance(1)
        self.assertEqual(self.lines(), ["accepted id=a"])
        self.assertEqual(self.said, [])

    def test_a_write_that_took_a_part_goes_on_where_it_ended(self) -> None:
        class Narrow(FaultyDisk):
            def write(self, fd: int, octets: bytes | memoryview) -> int:
                return super().write(fd, octets[:7])

        log = self.log(disk=Narrow())
        log.event("accepted", id="a")
        log.event("accepted", id="b")
        self.turn()
        self.assertEqual(self.lines(), ["accepted id=a", "accepted id=b"])

    def test_what_waits_is_bounded_and_what_was_dropped_is_counted(self) -> None:
        self.patch(maillog, "MOST_OCTETS", 10_000)
        disk = FaultyDisk(3, errno.ENOSPC, stays=True)
        log = self.log(disk=disk)
        for _ in range(100):
            for _ in range(10):
                log.event("accepted", id="0123456789")
            self.turn()
        self.assertLessEqual(len(log._unwritten), 10_000)
        disk.heal()
        self.file.write_bytes(b"")
        log.event("accepted", id="last")
        self.clock.advance(1)
        lines = self.lines()
        self.assertLess(len(lines), 300)
        *kept, confession = lines
        self.assertEqual(confession, f"dropped lines={1001 - len(kept)}")
        log.event("accepted", id="next")
        self.turn()
        self.assertEqual(self.lines()[-1], "accepted id=next")

    def test_events_of_one_turn_are_bounded(self) -> None:
        self.patch(maillog, "MOST_EVENTS", 5)
        log = self.log()
        for _ in range(8):
            log.event("accepted", id="a")
        self.turn()
        self.assertEqual(self.lines(), ["accepted id=a"] * 5 + ["dropped lines=3"])

    def test_events_that_wait_for_the_log_to_be_opened_are_bounded_over_all_turns(self) -> None:
        self.patch(maillog, "MOST_EVENTS", 5)
        log = MailLog(self.clock, self.file)
        for id in "aabbccdd":
            log.event("accepted", id=id)
            if id in "bd":
                self.turn()
        log.start()
        self.addCleanup(log.close)
        self.assertEqual(self.lines(), [f"accepted id={id}" for id in "aabbc"] + ["dropped lines=3"])

    def test_a_pipe_that_nobody_reads_stops_nobody(self) -> None:
        pipe = self.root / "pipe"
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        log = self.log(pipe)
        for n in range(5000):
            log.event("accepted", id=n)
        self.turn()
        read = b""
        while read.count(b"\n") < 5000:
            read += os.read(reader, 65536)
            self.clock.advance(1)
        self.assertEqual([int(line.split(b"=")[1]) for line in read.splitlines()], list(range(5000)))
        self.assertEqual(self.said, [])

    def test_who_writes_to_the_same_pipe_writes_whole_lines_between_ours(self) -> None:
        pipe = self.root / "pipe"
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        logs = [self.log(pipe), self.log(pipe)]
        for n in range(2000):
            for log in logs:
                log.event("accepted", id=n, helo="x" * (n % 90))
        self.turn()
        read = b""
        while read.count(b"\n") < 4000:
            read += os.read(reader, 10_000)
            self.clock.advance(1)
        lines = Counter(int(words(line)["id"]) for line in read.decode().splitlines())
        self.assertEqual(lines, Counter({n: 2 for n in range(2000)}))

    def test_a_pipe_whose_reader_is_gone_raises_nothing(self) -> None:
        pipe = self.root / "pipe"
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        log = self.log(pipe)
        os.close(reader)
        log.event("accepted", id="a")
        self.turn()
        log.close()
        self.assertEqual(self.said, ["error"])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class VocabularyTests(SynchronousTestCase):
    def test_the_documentation_has_each_event_and_no_other(self) -> None:
        section = (DOCS / "mail-log.md").read_text().partition("## Events")[2].partition("## ")[0]
        described = re.findall(r"^\| `([a-z_]+)` \|", section, re.MULTILINE)
        self.assertEqual(sorted(described), sorted(EVENTS))

    def test_the_log_of_a_test_keeps_events_and_knows_the_words(self) -> None:
        log = MemoryMailLog()
        log.event("accepted", id="a", client=None)
        self.assertEqual(log.events, [Noted("accepted", {"id": "a"})])
        self.assertEqual(log.events, [("accepted", {"id": "a"})])
        self.assertEqual(log.named("accepted"), [{"id": "a"}])
        with self.assertRaises(ValueError):
            log.event("mislaid", id="a")
