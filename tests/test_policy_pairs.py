"""Files of keys and values: what they say, line by line."""

from __future__ import annotations

from io import StringIO

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.policy.pairs import WrongLine, columns, separated, table_of


def in_columns(text: str) -> list[tuple[int, str, str]]:
    return list(columns(StringIO(text)))


def in_csv(text: str, *, header: bool = False) -> list[tuple[int, str, str]]:
    return list(separated(StringIO(text), header=header))


class ColumnsTests(SynchronousTestCase):
    def test_the_first_word_is_the_key_and_the_rest_is_its_value(self) -> None:
        self.assertEqual(
            in_columns("a 1\nb\t2 and  more \nc\n"), [(1, "a", "1"), (2, "b", "2 and  more"), (3, "c", "")]
        )
        self.assertEqual(in_columns("last  without an end"), [(1, "last", "without an end")])

    def test_comments_and_blank_lines_mean_nothing_also_within_an_entry(self) -> None:
        text = "# comment\n\n  # comment\na 1\n# comment\n\n  2\n \nb 3 # no comment\n"
        self.assertEqual(in_columns(text), [(4, "a", "1 2"), (9, "b", "3 # no comment")])

    def test_a_line_that_begins_with_a_blank_goes_on_with_the_one_before(self) -> None:
        self.assertEqual(in_columns("a\n 1,\n\t2\nb 3"), [(1, "a", "1, 2"), (4, "b", "3")])
        error = self.assertRaises(WrongLine, in_columns, "\n  a 1\n")
        self.assertEqual(error.line, 2)

    def test_a_key_with_blanks_stands_in_double_quotes(self) -> None:
        self.assertEqual(in_columns('"a b"@c 1\n'), [(1, "a b", "@c 1")])
        self.assertEqual(in_columns('"a \\"b\\\\"\t1\n'), [(1, 'a "b\\', "1")])
        self.assertEqual(in_columns('""  1\n"a"'), [(1, "", "1"), (2, "a", "")])
        self.assertEqual(self.assertRaises(WrongLine, in_columns, 'a 1\n"b 2\n').line, 2)

    @given(st.lists(st.tuples(st.from_regex(r"[a-z0-9@.]+", fullmatch=True), st.text("abc #\"'\\", max_size=9))))
    def test_what_is_written_in_columns_is_read(self, pairs: list[tuple[str, str]]) -> None:
        text = "".join(f"{key}   {value}\n" for key, value in pairs)
        self.assertEqual([(key, value) for _, key, value in in_columns(text)], [(k, v.strip()) for k, v in pairs])


class CsvTests(SynchronousTestCase):
    def test_there_are_two_columns_or_one(self) -> None:
        self.assertEqual(in_csv('a,1\n\nb\n"c, d", x\n'), [(1, "a", "1"), (3, "b", ""), (4, "c, d", "x")])

    def test_a_header_is_no_entry(self) -> None:
        self.assertEqual(in_csv("key,value\na,1\n", header=True), [(2, "a", "1")])
        self.assertEqual(in_csv("", header=True), [])

    def test_a_value_may_have_several_lines_and_lines_are_counted_all_the_same(self) -> None:
        self.assertEqual(in_csv('a,"1\n2"\nb,3\n'), [(1, "a", "1\n2"), (3, "b", "3")])

    def test_what_has_more_columns_or_is_no_csv_is_wrong(self) -> None:
        self.assertEqual(self.assertRaises(WrongLine, in_csv, "a,1\nb,2,3\n").line, 2)
        self.assertEqual(self.assertRaises(WrongLine, in_csv, 'a,1\n"b"x,2\n').line, 2)


class TableOfTests(SynchronousTestCase):
    def test_letter_case_means_nothing_in_keys_unless_it_should(self) -> None:
        self.assertEqual(table_of([(1, "Jon", "Ann"), (2, "É", "1")], fold=True), {"jon": "Ann", "é": "1"})
        self.assertEqual(table_of([(1, "Jon", "1"), (2, "jon", "2")], fold=False), {"Jon": "1", "jon": "2"})

    def test_a_key_that_is_there_twice_has_one_value(self) -> None:
        self.assertEqual(table_of([(1, "a", "1"), (2, "A", "1")], fold=True), {"a": "1"})
        error = self.assertRaises(WrongLine, table_of, [(1, "a", "1"), (5, "A", "2")], fold=True)
        self.assertEqual(str(error), "line 5: 'a' is there twice, with '1' and '2'")

    def test_an_empty_key_is_wrong(self) -> None:
        self.assertRaises(WrongLine, table_of, [(1, "", "1")], fold=True)

    def test_a_value_that_makes_no_sense_is_named_with_its_line(self) -> None:
        error = self.assertRaises(
            WrongLine, table_of, [(1, "a", "1"), (7, "b", "x")], fold=True, checks=[lambda key, value: int(value)]
        )
        self.assertEqual(error.line, 7)
