"""`[metrics]`: a page for Prometheus."""

from pydantic import Field

from relay.config.fields import Listening, Section


class MetricsSettings(Section):
    """A page of numbers about the relay, for Prometheus. Whoever can connect there may read it."""

    address: Listening | None = Field(
        default=None,
        description='Where `/metrics` is answered over HTTP, such as `"127.0.0.1:9125"`. Without it, nowhere.',
    )
