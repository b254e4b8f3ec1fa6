"""What `Deliver("pipe", ...)` may say."""

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, field_validator

from relay.agents.scripts import scripts, unsaid
from relay.config.fields import Count, Place, Section, Word, Yes
from relay.config.units import KIB, MIB, Duration, Size, Timeout, at_least

#: What stands in an argument for something of the mail.
PLACEHOLDERS: Final = ("recipient", "local", "domain", "original", "sender", "id")
#: Of these each recipient has its own.
OF_A_RECIPIENT: Final = frozenset({"recipient", "local", "domain", "original"})
PLACEHOLDER: Final = re.compile(r"\{([A-Za-z_]+)\}")

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def _at_most_64_kib(octets: int) -> int:
    if octets > 64 * KIB:
        raise ValueError("should be at most 64 KiB")
    return octets


class PipeParameters(Section):
    """The parameters of the agent `pipe`."""

    command: tuple[str, ...] = Field(
        min_length=1,
        description="The program, by its absolute path, and its arguments, each as it is: there is no shell. "
        "`{recipient}`, `{local}`, `{domain}`, `{original}`, `{sender}` and `{id}` stand for something of the mail.",
    )
    recipients: Literal["one", "all"] = Field(
        default="one",
        description="Whether the program is started for each recipient, or once for all (100 at most). Then an "
        "argument that names the recipient is repeated for each.",
    )
    newlines: Literal["lf", "crlf"] = Field(default="lf", description="What lines end with on the standard input.")
    top: Yes = Field(default=True, description="Whether `Return-Path` and `Delivered-To` stand on top of the message.")
    user: Word | None = Field(
        default=None, description="The user as whom it runs. Only a relay that is root can become another, and must."
    )
    directory: Place | None = Field(default=None, description="Where it runs. Without it, `/`.")
    environment: dict[str, str] = Field(
        default={}, description="Variables of its environment, which has but a plain `PATH` and `LANG` otherwise."
    )
    timeout: Timeout = Field(default=300, description="How long it may take. Then it and all it has started is ended.")
    concurrency: Count = Field(default=4, description="How many of it may run at the same time.")
    output: Annotated[Size, AfterValidator(_at_most_64_kib)] = Field(
        default=4 * KIB, description="How much of the end of what it says is kept for the log."
    )
    memory: Annotated[Size, at_least(16 * MIB)] | None = Field(
        default=None, description="How much memory each of its processes may have (`RLIMIT_AS`)."
    )
    cpu: Duration | None = Field(
        default=None, description="How long each of its processes may compute (`RLIMIT_CPU`, in whole seconds)."
    )

    @field_validator("command")
    @classmethod
    def _can_be_run(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        program = command[0]
        if not program.startswith("/"):
            raise ValueError(f"'{program}' should be the absolute path of a program")
        if "{" in program:
            raise ValueError("no mail says which program is run: there should be no '{' in its path")
        for argument in command:
            if "\0" in argument:
                raise ValueError("no argument can have a NUL in it")
            for name in PLACEHOLDER.findall(argument):
                if name not in PLACEHOLDERS:
                    known = ", ".join(f"'{{{each}}}'" for each in PLACEHOLDERS)
                    raise ValueError(f"'{{{name}}}' stands for nothing; there are {known}")
        for reader, argument in scripts(command):
            if PLACEHOLDER.search(argument):
                raise ValueError(
                    f"'{argument}' is read by {reader} as a program, or says which it reads, and nothing of the mail "
                    'may stand there: give it as an argument behind, "$1" in a shell, as in '
                    '["/bin/sh", "-c", "program \\"$1\\"", "sh", "{local}"]'
                )
        if reader := unsaid(command):
            raise ValueError(
                f"{reader} is given no program, and would take the message itself for one: give it the path of a "
                'script, or one behind "-c"'
            )
        return command

    @field_validator("environment")
    @classmethod
    def _are_variables(cls, environment: dict[str, str]) -> dict[str, str]:
        for name, value in environment.items():
            if not _VARIABLE.match(name):
                raise ValueError(f"'{name}' is no name of a variable")
            if "\0" in value:
                raise ValueError(f"the value of '{name}' has a NUL in it")
        return environment
