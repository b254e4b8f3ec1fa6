"""`examples` of a `[[policy]]`: mails, and what is to become of them."""

import re
from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from relay.config.fields import Section, Word, Yes
from relay.mail.address import canonical_domain, parse_address
from relay.mail.answer import Absent, Answer, Exchange, Found, Record, Unanswered

#: How a client at a Unix socket is named.
UNIX = "unix"
#: Where no example says who the client is: a stranger, at an address of documentation (RFC 5737).
STRANGER = "192.0.2.1"

_WORDS = ("accept", "reject", "delay", "deliver", "forward", "hold", "discard", "abstain")
_EXPECTED = re.compile(
    r"(?:accept|reject|delay|hold|discard|abstain|(?:deliver|forward)(?::\S+)?"
    r"|[245][0-9][0-9](?: [245]\.[0-9]{1,3}\.[0-9]{1,3})?)\Z"
)
_QUESTION = re.compile(r"(?P<name>\S+) (?P<kind>A|AAAA|MX|TXT|PTR)\Z")
_NO_ANSWER = "servfail"


def _client(text: str) -> str:
    if text == UNIX:
        return text
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError(f"should be an IP address, or '{UNIX}'") from None


def _recipient(text: str) -> str:
    return str(parse_address(text))


def _sender(text: str) -> str:
    return text if text == "<>" else str(parse_address(text))


def _expectation(text: str) -> str:
    if not _EXPECTED.match(text):
        raise ValueError(
            f"should be one of {', '.join(repr(word) for word in _WORDS)}, or like 'deliver:maildir', "
            "'forward:example.org', '550' or '550 5.1.1'"
        )
    return text


def _questions(given: dict[str, tuple[str, ...] | str]) -> dict[str, tuple[str, ...] | str]:
    answers(given)
    return given


class Example(Section):
    """A mail, and what is to become of it."""

    # `from` is no name in Python.
    model_config = ConfigDict(frozen=True, extra="forbid", title="Example")

    to: Annotated[str, AfterValidator(_recipient)] = Field(description="The recipient.")
    expect: Annotated[str, AfterValidator(_expectation)] = Field(
        description="What is to become of it: `accept`, `reject`, `delay`; of what is accepted also `deliver`, "
        "`forward`, `hold`, `discard`, or more precisely `deliver:maildir`, `forward:example.org`; the reply, `550` or "
        "`550 5.1.1`; `abstain`: no policy has anything to say."
    )
    client: Annotated[str, AfterValidator(_client)] = Field(
        default=STRANGER, description="The client's address, or `unix` for a Unix socket. Without it, a stranger's."
    )
    sender: Annotated[str, AfterValidator(_sender)] = Field(
        default="<>", alias="from", description="The sender. Without it, the null reverse-path."
    )
    helo: str = Field(default="", description="What the client says in EHLO. Without it, its address in brackets.")
    user: Word | None = Field(default=None, description="Whom the client has proved to be.")
    tls: Yes = Field(default=False, description="Whether the connection is encrypted.")
    listener: Word = Field(default="", description="Where it comes in. Without it, the first listener.")
    message: str = Field(
        default="",
        description="The message, its lines as you write them. Without one, policies about content are not asked.",
    )
    of: Literal["all", "policy"] = Field(
        default="all",
        description="Who is asked: `all` policies together, or only the `policy` in which the example stands, as if "
        "there were no other.",
    )
    dns: Annotated[dict[str, tuple[str, ...] | str], AfterValidator(_questions)] | None = Field(
        default=None,
        description='All that the DNS has: `"example.org MX" = ["10 mx.example.org"]`, `"192.0.2.9 PTR" = [...]`, or '
        '`"servfail"` for no answer. Without it nobody answers.',
    )
    tables: dict[str, dict[str, str]] = Field(
        default={}, description="What stands in tables, by their names or files, instead of what does."
    )


def answers(dns: dict[str, tuple[str, ...] | str]) -> dict[tuple[str, str], Answer]:
    """What a resolver would say, by name and kind. Raises `ValueError`."""
    found: dict[tuple[str, str], Answer] = {}
    for question, said in dns.items():
        match = _QUESTION.match(question)
        if match is None:
            raise ValueError(f"{question!r} should be a name and one of A, AAAA, MX, TXT, PTR: 'example.org MX'")
        name, kind = match["name"], match["kind"]
        found[_name(name, kind), kind] = _answer(said, kind)
    return found


def answer(known: dict[tuple[str, str], Answer], name: str, kind: str) -> Answer:
    """What there is at this name. A name exists if anything is said of it, or of one below it."""
    said = known.get((name, kind))
    if said is not None:
        return said
    return Absent(nonexistent=not any(other == name or other.endswith(f".{name}") for other, _ in known))


def _name(text: str, kind: str) -> str:
    if kind == "PTR":
        try:
            return ip_address(text).reverse_pointer
        except ValueError:
            pass
    return text.lower().rstrip(".")


def _answer(said: tuple[str, ...] | str, kind: str) -> Answer:
    if said == _NO_ANSWER:
        return Unanswered("SERVFAIL")
    if isinstance(said, str):
        said = (said,)
    records = tuple(_record(text, kind) for text in said)
    return Found(records) if records else Absent(nonexistent=False)


def _record(text: str, kind: str) -> Record:
    if kind in ("A", "AAAA"):
        address = ip_address(text)
        if (address.version == 4) is not (kind == "A"):
            raise ValueError(f"{text!r} is no {kind} record")
        return str(address)
    if kind == "MX":
        preference, _, host = text.partition(" ")
        if not preference.isdecimal() or not host.strip():
            raise ValueError(f"{text!r} is no MX record: it should be like '10 mx.example.org', or '0 .'")
        return Exchange(int(preference), "" if host.strip() == "." else canonical_domain(host.strip().rstrip(".")))
    return text if kind == "TXT" else canonical_domain(text.rstrip("."))
