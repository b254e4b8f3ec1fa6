from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.answer import Absent, Exchange, Found
from relay.net.clock import ReactorClock
from relay.net.dnscache import Cache

SMALL = Found(("192.0.2.1",))
LARGE = Found(("x" * 5000,))


class CacheTests(SynchronousTestCase):
    def cache(self, most_octets: int) -> Cache:
        return Cache(ReactorClock(Clock(), lambda: 0.0), most_octets)

    def test_the_oldest_answers_go_when_it_is_full(self) -> None:
        cache = self.cache(20_000)
        for name in "abcd":
            cache.keep(name, "TXT", LARGE, 300)
        self.assertEqual([cache.get(name, "TXT") for name in "abcd"], [None, LARGE, LARGE, LARGE])

    def test_an_answer_that_is_told_again_is_not_counted_twice(self) -> None:
        cache = self.cache(20_000)
        cache.keep("a", "A", SMALL, 300)
        for _ in range(100):
            cache.keep("b", "TXT", LARGE, 300)
        self.assertEqual(cache.get("a", "A"), SMALL)

    def test_an_answer_that_would_fill_it_alone_is_not_kept(self) -> None:
        cache = self.cache(4_000)
        cache.keep("a", "A", SMALL, 300)
        cache.keep("b", "TXT", LARGE, 300)
        self.assertEqual([cache.get("a", "A"), cache.get("b", "TXT")], [SMALL, None])

    def test_an_answer_that_no_longer_holds_is_forgotten_with_what_came_before(self) -> None:
        cache = self.cache(20_000)
        cache.keep("a", "MX", Found((Exchange(10, "mx.example"),)), 300)
        cache.keep("a", "MX", Absent(nonexistent=True), 0)
        self.assertIsNone(cache.get("a", "MX"))

    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3000), st.sampled_from([0, 5, 60])), max_size=60))
    def test_it_never_outgrows_its_bound(self, told: list[tuple[int, int, int]]) -> None:
        clock = Clock()
        cache = Cache(ReactorClock(clock, lambda: 0.0), 10_000)
        for number, length, seconds in told:
            cache.keep(str(number), "TXT", Found(("x" * length,)), seconds)
            clock.advance(1)
            kept = [cache.get(str(n), "TXT") for n in range(10)]
            texts = [record for answer in kept if isinstance(answer, Found) for record in answer.records]
            self.assertLessEqual(sum(map(len, map(str, texts))), 10_000)
            if seconds > 1:
                self.assertIn("x" * length, texts)
