"""What `Deliver` may say to the agents that write to disk, for those who say it in a configuration."""

from typing import Literal

from pydantic import Field

from relay.config.fields import Place, Section


class FolderParameters(Section):
    """The parameters of the agent `maildir`."""

    folder: Place = Field(description="The Maildir. It is made if it is not there.")


class FileParameters(Section):
    """The parameters of the agent `mbox`."""

    file: Place = Field(description="The file.")
    create: Literal["yes", "no"] = Field(
        default="no", description="Whether the file is made if it is not there. Otherwise mail for it waits."
    )


class NoParameters(Section):
    """The parameters of an agent that has none."""
