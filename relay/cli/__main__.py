"""`python -m relay.cli` is `relayctl`."""

from __future__ import annotations

from relay.cli.relayctl import main

if __name__ == "__main__":
    main(prog_name="relayctl")
