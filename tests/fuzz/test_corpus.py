"""What the fuzzer and people have found worth trying is tried each time, without the fuzzer."""

from __future__ import annotations

import importlib
import re

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz import CORPUS, TARGETS, naive, seeds
from tests.fuzz.given import Given


class CorpusTests(SynchronousTestCase):
    """A test for each target is added below."""

    def replay(self, target: str) -> None:
        check = importlib.import_module(f"tests.fuzz.{target}").check
        made = {name: octets for whose, name, octets in seeds.seeds() if whose == target}
        found = {path.name: path.read_bytes() for path in sorted((CORPUS / target).iterdir())}
        self.assertGreater(min(len(made), len(found)), 5)
        for name, octets in (made | found).items():
            with self.subTest(name):
                check(octets)

    def test_the_corpus_is_small_and_has_nothing_twice(self) -> None:
        inputs = [(path.parent.name, path.read_bytes()) for path in CORPUS.glob("*/*")]
        self.assertLess(sum(len(octets) for _, octets in inputs), 300_000)
        self.assertEqual(len(inputs), len(set(inputs)))


class NaiveTests(SynchronousTestCase):
    """Whoever judges others is judged first."""

    def test_content_ends_at_a_line_of_one_dot(self) -> None:
        read = naive.read_content(b"a\r\n..b\r\n.\r\nQUIT\r\n")
        self.assertEqual((read.used, read.plain, read.wire), (11, b"a\r\n.b\r\n", b"a\r\n..b\r\n.\r\n"))
        self.assertEqual(naive.read_content(b".\r\n").used, 3)
        for ending in (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r\n..\r\n", b"\r\n\0.\r\n"):
            self.assertIsNone(naive.read_content(b"a" + ending).used, ending)

    def test_a_cr_or_lf_alone_is_seen(self) -> None:
        for octets in (b"a\rb\r\n", b"a\nb", b"a\r\r\n", b"\r", b"\n\r\n"):
            self.assertTrue(naive.is_bare(octets), octets)
        self.assertFalse(naive.is_bare(b"\r\na\r\n\r\n"))

    def test_a_reply_is_lines_of_one_code(self) -> None:
        for octets in (b"250 ok\r\n", b"250\r\n", b"250-a\r\n250 b\r\n"):
            self.assertTrue(naive.is_one_reply(octets), octets)
        for octets in (b"", b"250 ok", b"250-a\r\n", b"250 a\r\n250 b\r\n", b"250-a\r\n251 b\r\n", b"250 a\nb\r\n"):
            self.assertFalse(naive.is_one_reply(octets), octets)
        self.assertEqual(naive.replies(b"220 a\r\n250-b\r\n250 c\r\nx\r\n354 d\r\n"), [220, 250])

    def test_an_input_is_made_of_what_it_says(self) -> None:
        given = Given(b"abcdef", flags=5, refusals=2, cuts=(1, 2))
        self.assertEqual(Given.of(given.data).pieces, [b"a", b"bc", b"d", b"ef"])
        self.assertEqual((given.has(0), given.has(1), given.refuses(0), given.refuses(9)), (True, False, False, True))
        self.assertEqual(Given.of(b"").pieces, [])


class CommandTests(SynchronousTestCase):
    def test_every_target_has_a_corpus_and_every_corpus_a_target(self) -> None:
        self.assertEqual({path.name for path in CORPUS.iterdir()}, set(TARGETS))
        for target in TARGETS:
            self.assertTrue(re.fullmatch("[a-z]+", target))


def _add(target: str) -> None:
    def test(self: CorpusTests) -> None:
        self.replay(target)

    setattr(CorpusTests, f"test_{target}", test)


for _target in TARGETS:
    _add(_target)
