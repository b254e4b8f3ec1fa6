"""What `Deliver("http", ...)` may say."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from relay.config.fields import Count, Place, Section, Yes
from relay.config.units import Timeout
from relay.net.urls import Url


class HttpParameters(Section):
    """The parameters of the agent `http`."""

    plain: Yes = Field(
        default=False, description="Whether mail may go unencrypted, by `http://`, to a host that is not this machine."
    )
    url: str = Field(description="Where each message is posted: `https://`, or `http://` on this machine.")
    token: Place | None = Field(
        default=None,
        description="A file with a token, which is sent as `Authorization: Bearer`. Others must not be able to read "
        "it. It is read anew for each message.",
    )
    authorities: Place | None = Field(
        default=None,
        description="A file with the certificates of the authorities from one of which the server's must come. Without "
        "it, the system's.",
    )
    recipients: Literal["one", "all"] = Field(
        default="one",
        description="Whether a message is posted for each recipient, or for up to 20 at once, who then share "
        "the answer.",
    )
    top: Yes = Field(default=False, description="Whether `Return-Path` and `Delivered-To` stand on top of the message.")
    timeout: Timeout = Field(default=60, description="How long it may take from connecting to the end of the answer.")
    concurrency: Count = Field(default=8, description="How many requests for this URL may be under way.")

    @field_validator("url")
    @classmethod
    def _is_safe(cls, url: str, info: ValidationInfo) -> str:
        Url.of(url, plain=bool(info.data.get("plain")))
        return url
