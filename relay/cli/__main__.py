"""`python -m relay.cli` is `relayctl`."""

from __future__ import annotations

from relay.cli.relayctl import main

main(prog_name="relayctl")
