"""`[[table]]`: look-up tables that people keep in files."""

from typing import Literal, Self

from pydantic import Field, model_validator

from relay.config.fields import Place, Section, Word, Yes

TableFormat = Literal["columns", "csv"]


class TableSettings(Section):
    """A file with a key and a value in each line. It is read again when it has changed."""

    name: Word = Field(description='What policies call it: `table = "name"`.')
    file: Place = Field(description="The file.")
    format: TableFormat = Field(
        default="columns",
        description="`columns`: a key, blanks, and the rest of the line is its value, as Postfix has it. `csv`: two "
        "columns with a comma between them.",
    )
    header: Yes = Field(default=False, description="Whether the first line of a `csv` file only names its columns.")
    fold: Yes = Field(default=True, description="Whether letter case means nothing in keys.")
    secret: Yes = Field(
        default=False,
        description="Whether accounts of decisions (`why`, `explain`) say no more of a value than `found`.",
    )

    @model_validator(mode="after")
    def _only_csv_has_a_header(self) -> Self:
        if self.header and self.format != "csv":
            raise ValueError("'header' is for format = \"csv\": a '#' begins a comment in columns")
        return self


def distinct(tables: tuple[TableSettings, ...]) -> tuple[TableSettings, ...]:
    """Raises `ValueError` if two have one name."""
    names = [table.name for table in tables]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two tables are called '{twice}'")
    return tables
