"""`[auth]`: who knows the users, and by what they prove who they are."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from relay.config.fields import Place, Section

Mechanism = Literal["EXTERNAL", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"]
#: Without -PLUS: programs whose library knows it and is not told the channel's binding (mutt) choose it and then fail.
_USUAL: tuple[Mechanism, ...] = ("EXTERNAL", "SCRAM-SHA-256", "PLAIN", "LOGIN")


def _importable(text: str) -> str:
    module, colon, name = text.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise ValueError("should be like 'package.module:Name'")
    return text


class AuthSettings(Section):
    """Who knows the users of listeners with TLS: one of the first three keys, or nobody."""

    passwords: Place | None = Field(default=None, description="A file that `relayctl passwd` writes.")
    dovecot: Place | None = Field(
        default=None,
        description='A Unix socket of Dovecot\'s authentication, `"/run/dovecot/auth-client"`: the users that it has.',
    )
    checker: Annotated[str, AfterValidator(_importable)] | None = Field(
        default=None, description='`"package.module:Name"`, a checker of `twisted.cred` for names and passwords.'
    )
    mechanisms: Annotated[tuple[Mechanism, ...], Field(min_length=1)] = Field(
        default=_USUAL,
        description="What is offered at most. What cannot be had from the source of users is not. "
        "`SCRAM-SHA-256-PLUS`, by which a proof is bound to the connection, has to be asked for: some programs choose "
        "it wherever it is offered, and fail.",
    )

    @property
    def source(self) -> Literal["passwords", "dovecot", "checker"] | None:
        """The key that says who knows the users; `None`: nobody does."""
        for key in ("passwords", "dovecot", "checker"):
            if getattr(self, key) is not None:
                return key
        return None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        said = [key for key in ("passwords", "dovecot", "checker") if getattr(self, key) is not None]
        if len(said) > 1:
            raise ValueError(f"should have one source of users, not both '{said[0]}' and '{said[1]}'")
        return self
