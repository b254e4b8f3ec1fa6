from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from twisted.trial.unittest import SynchronousTestCase

from relay.config.units import DAY, GIB, KIB, MIB, TimeoutOrNever, duration, size, spell_duration, spell_size


class DurationTests(SynchronousTestCase):
    def test_people_write_units(self) -> None:
        written = ["300s", "5m", "4h", "5d", "1.5h", "30 s"]
        self.assertEqual([duration(text) for text in written], [300, 300, 14400, 432000, 5400, 30])

    def test_a_number_is_seconds(self) -> None:
        self.assertEqual([duration(10), duration(0.5)], [10, 0.5])

    @given(st.integers(1, 100 * 365 * DAY) | st.floats(0.001, 1e6).map(lambda seconds: round(seconds, 3)))
    def test_what_is_spelled_out_is_read_back(self, seconds: float) -> None:
        self.assertEqual(duration(spell_duration(seconds)), seconds)

    def test_what_is_no_duration_is_refused(self) -> None:
        for value in ("", "5", "m", "5M", "5 min", "-5m", "1h30m", "٣s", True, None, [], float("nan")):
            with self.assertRaisesRegex(ValueError, "should be a duration such as", msg=repr(value)):
                duration(value)

    def test_no_time_at_all_is_refused(self) -> None:
        for value in (0, -1, "0s", float("-inf")):
            with self.assertRaisesRegex(ValueError, "longer than no time", msg=repr(value)):
                duration(value)

    def test_more_than_a_life_is_refused(self) -> None:
        for value in (10**400, float("inf"), "999999999999999d"):
            with self.assertRaisesRegex(ValueError, "at most 100 years", msg=repr(value)):
                duration(value)


class TimeoutOrNeverTests(SynchronousTestCase):
    adapter: TypeAdapter[float] = TypeAdapter(TimeoutOrNever)

    def test_nought_is_never_and_all_else_is_a_duration_of_at_most_a_day(self) -> None:
        self.assertEqual([self.adapter.validate_python(value) for value in (0, 0.0, 3, "1m")], [0.0, 0.0, 3.0, 60.0])
        for wrong in (False, True, -1, "0", "0s", "2d", "never", None, [0]):
            with self.assertRaises(ValidationError):
                self.adapter.validate_python(wrong)


class SizeTests(SynchronousTestCase):
    def test_people_write_units(self) -> None:
        written = ["25 MiB", "64KiB", "1 GiB", "0.5 KiB"]
        self.assertEqual([size(text) for text in written], [25 * MIB, 64 * KIB, GIB, 512])

    def test_a_number_is_octets(self) -> None:
        self.assertEqual([size(0), size(998)], [0, 998])

    @given(st.integers(0, 10 * GIB))
    def test_what_is_spelled_out_is_read_back(self, octets: int) -> None:
        spelled = spell_size(octets)
        self.assertEqual(size(int(spelled) if spelled.isdigit() else spelled), octets)

    def test_what_is_no_size_is_refused(self) -> None:
        for value in ("", "5", "MiB", "5 x", "-5 MiB", True, None, [], 1.0):
            with self.assertRaisesRegex(ValueError, "should be a size such as", msg=repr(value)):
                size(value)

    def test_units_that_mean_two_things_are_asked_back(self) -> None:
        for text, meant in (("25 MB", "MiB"), ("25M", "MiB"), ("64 kB", "KiB"), ("1 gib", "GiB")):
            with self.assertRaisesRegex(ValueError, f"did you mean '{meant}'"):
                size(text)

    def test_parts_of_an_octet_are_refused(self) -> None:
        with self.assertRaisesRegex(ValueError, "whole number"):
            size("0.3 KiB")

    def test_less_than_nothing_and_more_than_anybody_has_is_refused(self) -> None:
        with self.assertRaisesRegex(ValueError, "should be 0 octets or more"):
            size(-1)
        for value in (2**60, "999999999999999 GiB"):
            with self.assertRaisesRegex(ValueError, "at most"):
                size(value)
