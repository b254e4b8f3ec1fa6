from __future__ import annotations

from collections.abc import Callable
from itertools import count

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.spool.identity import ALPHABET, LENGTH, Identities, is_queue_id, recipient_id

NOON = 1795435200.0


def constant(octet: int) -> Callable[[int], bytes]:
    return lambda wanted: bytes([octet]) * wanted


def number(id: str) -> int:
    """What an id stands for."""
    return int(id.translate(_AS_BASE_32), 32)


class QueueIdTests(SynchronousTestCase):
    def test_an_id_is_fourteen_characters_that_can_be_read_out(self) -> None:
        id = Identities(lambda: NOON).queue_id()
        self.assertEqual(len(id), LENGTH)
        self.assertTrue(set(id) <= set(ALPHABET))
        self.assertTrue(is_queue_id(id))

    def first_id_at(self, when: float) -> str:
        return Identities(lambda: when, constant(255)).queue_id()

    def test_an_id_begins_with_its_second(self) -> None:
        first, later = (self.first_id_at(when) for when in (NOON, NOON + 1))
        self.assertEqual(int(NOON) & (2**30 - 1), int(first[:6].translate(_AS_BASE_32), 32))
        self.assertLess(first, later)

    def test_ids_of_one_second_differ_and_sort_as_they_were_drawn(self) -> None:
        identities = Identities(lambda: NOON, constant(0))
        ids = [identities.queue_id() for _ in range(3000)]
        self.assertEqual(len(set(ids)), 3000)
        self.assertEqual(sorted(ids), ids)

    @given(st.integers(0, 2**16 - 1), st.integers(2, 200))
    def test_ids_of_one_second_are_steps_of_one_number(self, step: int, count: int) -> None:
        """Also where more than the last letters of an id have to change."""
        identities = Identities(lambda: NOON, lambda wanted: step.to_bytes(8, "little") * (wanted // 8))
        ids = [number(identities.queue_id()) for _ in range(count)]
        self.assertEqual(ids, [ids[0] + (step + 1) * times for times in range(count)])
        self.assertEqual(ids[0], (int(NOON) & (2**30 - 1)) << 40 | step)

    @given(st.lists(st.integers(2**30, 2**31 - 1), min_size=2, max_size=50), st.sampled_from([0, 1, 255]))
    def test_a_clock_that_goes_back_repeats_no_id(self, seconds: list[int], octet: int) -> None:
        times = iter(seconds)
        identities = Identities(lambda: float(next(times)), constant(octet))
        ids = [identities.queue_id() for _ in seconds]
        self.assertEqual(len(set(ids)), len(ids))

    def test_two_sources_agree_on_none_of_a_second(self) -> None:
        first, second = Identities(lambda: NOON), Identities(lambda: NOON)
        self.assertEqual({first.queue_id() for _ in range(1000)} & {second.queue_id() for _ in range(1000)}, set())

    def test_random_octets_are_asked_for_by_the_page_and_used_once(self) -> None:
        asked, numbers = [], count()

        def random(wanted: int) -> bytes:
            asked.append(wanted)
            return b"".join(next(numbers).to_bytes(4, "big") for _ in range(wanted // 4))

        identities = Identities(lambda: NOON, random)
        tokens = [identities.token() for _ in range(1000)]
        self.assertEqual(len(set(tokens)), 1000)
        self.assertEqual(asked, [4096, 4096])

    def test_no_token_is_zero(self) -> None:
        self.assertEqual(Identities(lambda: NOON, constant(0)).token(), 1)
        self.assertEqual(Identities(lambda: NOON, constant(255)).token(), 2**63 - 1)

    def test_a_recipient_is_named_after_its_entry(self) -> None:
        self.assertEqual(recipient_id("0123456789ABCD", 12), "0123456789ABCD.12")

    def test_other_names_are_no_ids(self) -> None:
        for name in (
            "",
            "probe",
            "0123456789ABC",
            "0123456789ABCDE",
            "0123456789ABCI",
            "0123456789abcd",
            "../0123456789A",
        ):
            self.assertFalse(is_queue_id(name), name)


#: Python's own digits, which have I, L, O and U instead of the last four.
_AS_BASE_32 = str.maketrans(ALPHABET, "0123456789ABCDEFGHIJKLMNOPQRSTUV")
