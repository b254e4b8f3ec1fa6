"""
The other servers, each with a configuration as one would run it, and a word on what its 250 is worth.

Postfix is in `bench.servers`, beside the relay: the targets are about these two. What cannot be measured says why
(`why_not`), and the report names it.
"""
