from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.config.lines import KeyPath, Lines

Draw = Callable[[st.SearchStrategy[Any]], Any]

ODD_TEXT = st.text(alphabet=st.sampled_from("ab.\"'\\#=[]{}, \t\nü\u00a0"), max_size=8)
KEYS = st.sampled_from(["a", "b", "c-d", "x_1", "3"]) | ODD_TEXT
SCALARS = st.integers(-99, 99) | st.booleans() | st.floats(-9, 9) | ODD_TEXT
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.recursive(
    st.dictionaries(KEYS, VALUES, max_size=3),
    lambda inner: st.dictionaries(KEYS, VALUES | inner | st.lists(inner, min_size=1, max_size=3), max_size=3),
    max_leaves=5,
)


class Writer:
    """Writes a document as TOML, in one of the many ways there are, and notes on which line each key came to stand."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self.text = ""
        self.lines: dict[KeyPath, int] = {}

    def write(self, document: dict[str, Any]) -> None:
        self._table(document, [], ())

    def _table(self, table: dict[str, Any], names: list[str], path: KeyPath) -> None:
        headed = {key: value for key, value in table.items() if self._may_have_header(value) and self._either()}
        for key, value in table.items():
            if key not in headed:
                self._noise()
                self._entry([key], value, path, (*path, key))
                self.text += "\n"
        for key, value in headed.items():
            written = [*names, self._key(key)]
            if isinstance(value, dict):
                if value and all(self._may_have_header(inner) for inner in value.values()) and self._either():
                    self._only_inner_headers(value, written, (*path, key))
                else:
                    self._header("[", written, "]", (*path, key))
                    self._table(value, written, (*path, key))
            else:
                for index, inner in enumerate(value):
                    self._header("[[", written, "]]", (*path, key, index))
                    self.lines.setdefault((*path, key), self.lines[(*path, key, index)])
                    self._table(inner, written, (*path, key, index))

    def _only_inner_headers(self, table: dict[str, Any], names: list[str], path: KeyPath) -> None:
        """A table that is there because of `[table.inner]`."""
        for key, value in table.items():
            tables = [value] if isinstance(value, dict) else value
            for index, inner in enumerate(tables):
                place = (*path, key) if isinstance(value, dict) else (*path, key, index)
                written = [*names, self._key(key)]
                self._header(*(("[", written, "]") if isinstance(value, dict) else ("[[", written, "]]")), place)
                self.lines.setdefault(path, self.lines[place])
                self.lines.setdefault((*path, key), self.lines[place])
                self._table(inner, written, place)

    def _entry(self, names: list[str], value: Any, path: KeyPath, place: KeyPath) -> None:
        self.lines.setdefault(place, self._line())
        if isinstance(value, dict) and value and len(names) < 3 and self._either():
            for index, (key, inner) in enumerate(value.items()):
                if index:
                    self.text += "\n"
                    self._noise()
                self._entry([*names, key], inner, path, (*place, key))
            return
        blank = self._blank()
        self.text += f"{blank}.{blank}".join(map(self._key, names)) + f"{self._blank()}={self._blank()}"
        self._value(value, place, flat=False)
        self.text += self._draw(st.sampled_from(["", " ", "  # [[no]] = 'table'"]))

    def _value(self, value: Any, place: KeyPath, *, flat: bool) -> None:
        if isinstance(value, dict):
            self._inline_table(value, place)
        elif isinstance(value, list):
            self._array(value, place, flat=flat)
        elif isinstance(value, str):
            self.text += self._string(value, flat=flat)
        else:
            self.text += str(value).lower()

    def _inline_table(self, table: dict[str, Any], place: KeyPath) -> None:
        self.text += "{"
        for index, (key, value) in enumerate(table.items()):
            self.text += "," if index else ""
            self.text += self._blank()
            self.lines[(*place, key)] = self._line()
            self.text += f"{self._key(key)}{self._blank()}={self._blank()}"
            self._value(value, (*place, key), flat=True)
        self.text += self._blank() + "}"

    def _array(self, values: list[Any], place: KeyPath, *, flat: bool) -> None:
        gaps = st.sampled_from(["", " "] if flat else ["", " ", "\n", " # ], }\n", "\n\n\t"])
        self.text += "[" + self._draw(gaps)
        for index, value in enumerate(values):
            self.lines[(*place, index)] = self._line()
            self._value(value, (*place, index), flat=flat)
            self.text += self._draw(gaps)
            if index + 1 < len(values) or self._either():
                self.text += "," + self._draw(gaps)
        self.text += "]"

    def _header(self, opening: str, names: list[str], closing: str, place: KeyPath) -> None:
        self._noise()
        self.lines[place] = self._line()
        blank = self._blank()
        self.text += f"{opening}{blank}{f'{blank}.{blank}'.join(names)}{blank}{closing}{self._blank()}\n"

    def _noise(self) -> None:
        self.text += self._draw(st.sampled_from(["", "", "\n", "# key = 1\n", '\t\n  # [table] """\n']))

    def _key(self, key: str) -> str:
        bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
        return key if bare and self._either() else self._one_line(key)

    def _string(self, text: str, *, flat: bool) -> str:
        ways = [self._one_line(text)]
        if not flat and "'''" not in text:
            ways.append(f"'''\n{text}'''" if not text.endswith("'" * 3) else ways[0])
        if not flat:
            ways.append('"""\n' + self._escaped(text).replace("\\n", "\n").replace('\\"', '"', 2) + '"""')
            ways.append('"""\\\n   ' + self._escaped(text).replace(" ", "\\u0020") + '"""')
        way: str = self._draw(st.sampled_from(ways))
        return way if self._says(way, text) else ways[0]

    def _one_line(self, text: str) -> str:
        literal = f"'{text}'"
        return literal if not set(text) & set("'\n") and self._either() else f'"{self._escaped(text)}"'

    def _escaped(self, text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")

    def _says(self, way: str, text: str) -> bool:
        try:
            return bool(tomllib.loads(f"key = {way}")["key"] == text)
        except tomllib.TOMLDecodeError:
            return False

    def _may_have_header(self, value: Any) -> bool:
        if isinstance(value, list):
            return bool(value) and all(isinstance(each, dict) for each in value)
        return isinstance(value, dict)

    def _blank(self) -> str:
        return str(self._draw(st.sampled_from(["", " ", "\t "])))

    def _either(self) -> bool:
        return bool(self._draw(st.booleans()))

    def _line(self) -> int:
        return self.text.count("\n") + 1


@st.composite
def written(draw: Draw) -> tuple[dict[str, Any], Writer]:
    document = draw(DOCUMENTS)
    writer = Writer(draw)
    writer.write(document)
    return document, writer


class LinesTests(SynchronousTestCase):
    @given(written(), st.booleans())
    def test_every_key_is_found_on_the_line_where_it_was_written(
        self, written: tuple[dict[str, Any], Writer], carriage_returns: bool
    ) -> None:
        document, writer = written
        text = writer.text.replace("\n", "\r\n") if carriage_returns else writer.text
        read = tomllib.loads(text)
        if not carriage_returns:
            self.assertEqual(read, document)  # or the writer is wrong
        lines = Lines.of(text)
        self.assertEqual({path: lines.line(path) for path in writer.lines}, writer.lines, text)

    @given(written())
    def test_every_key_that_a_document_has_is_known(self, written: tuple[dict[str, Any], Writer]) -> None:
        document, writer = written
        self.assertEqual(set(writer.lines), set(paths(document, ())))

    def test_a_key_that_is_missing_has_the_line_of_its_table(self) -> None:
        lines = Lines.of("\n[[policy]]\nuse = 1\n\n[[policy]]\nname = 2\n")
        self.assertEqual(lines.line(("policy", 1, "use")), 5)
        self.assertEqual(lines.line(("policy", 0, "when", "client", 3)), 2)

    def test_a_key_of_the_whole_file_that_is_missing_has_its_first_line(self) -> None:
        self.assertEqual(Lines.of("# nothing\n").line(("hostname",)), 1)

    def test_a_table_that_is_written_after_its_inner_table_has_its_own_line(self) -> None:
        lines = Lines.of("[a.b]\n\n[a]\nkey = 1\n")
        self.assertEqual([lines.line(("a",)), lines.line(("a", "b"))], [3, 1])

    def test_keys_behind_an_array_of_tables_belong_to_its_last_table(self) -> None:
        lines = Lines.of("[[p]]\n[p.when]\nx = 1\n[[p]]\n[p.when]\nx = 1\n[[p.inner]]\n[[p.inner]]\ny = 2")
        self.assertEqual(lines.line(("p", 0, "when", "x")), 3)
        self.assertEqual(lines.line(("p", 1, "when", "x")), 6)
        self.assertEqual(lines.line(("p", 1, "inner", 1, "y")), 9)

    def test_quotes_within_quotes_end_nothing(self) -> None:
        text = "a = \"\"\"x\"\"\"\"\"\nb = '''\n'''''\nc = '''''' # '''\nd = \"\\\"#\"\ne = 1"
        lines = Lines.of(text)
        self.assertEqual(tomllib.loads(text), {"a": 'x""', "b": "''", "c": "", "d": '"#', "e": 1})
        self.assertEqual([lines.line((key,)) for key in "abcde"], [1, 2, 4, 5, 6])


def paths(value: Any, path: KeyPath) -> list[KeyPath]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [each for key, inner in items for each in [(*path, key), *paths(inner, (*path, key))]]
