"""`[[login]]`: who the relay is at a host that lets nobody else relay."""

from collections.abc import Iterable, Iterator
from typing import Any, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from relay.config.fields import Place, Section, Word
from relay.config.policies import PolicySettings

_SECRETS = ("password", "password_file", "token_file")


class LoginSettings(Section):
    """A name for policies, and what a host is told under it: one of the last three keys."""

    name: Word = Field(description="What policies call it: `login` of `forward`. It is all that is kept with mail.")
    user: str = Field(min_length=1, description="The name of the user there.")
    password: SecretStr | None = Field(
        default=None, description="The password, a dollar sign in it written `$$`. It is better in a file of its own."
    )
    password_file: Place | None = Field(
        default=None,
        description="A file with the password in its first line, which others cannot read. It is read for each login.",
    )
    token_file: Place | None = Field(
        default=None,
        description="A file with an OAuth 2.0 access token in its first line, for XOAUTH2, which somebody keeps fresh "
        "and others cannot read. It is read for each login.",
    )

    @field_validator("user", "password")
    @classmethod
    def _sendable(cls, value: Any) -> Any:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text is not None and (not text or not text.isprintable()):
            raise ValueError("should be text without control characters")
        return value

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if sum(getattr(self, key) is not None for key in _SECRETS) != 1:
            raise ValueError("should have one of 'password', 'password_file' and 'token_file'")
        return self


def different(logins: tuple[LoginSettings, ...]) -> tuple[LoginSettings, ...]:
    """Raises `ValueError` if two have one name."""
    names = [login.name for login in logins]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two logins are called '{twice}'")
    return logins


def missing(policies: Iterable[PolicySettings], logins: Iterable[LoginSettings]) -> Iterator[tuple[int, str]]:
    """Policies that use a login that is not there: the place of each, and what is wrong with its `login`."""
    known = {login.name for login in logins}
    for index, policy in enumerate(policies):
        name = getattr(policy.options, "login", "")
        if name and name not in known:
            yield index, f"there is no [[login]] called '{name}'"
