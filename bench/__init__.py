"""
How fast the relay is, beside other servers in the same run on the same machine.

    make bench                          all of it: some minutes
    make bench ARGS="--quick"           one round, about a minute
    make bench ARGS="--json result.json"
    make bench ARGS="--alone --against HEAD~1"    before and after, in one run

Beside it, each with a target of its own: `python -m bench.idle` (ten thousand idle sessions), `python -m
bench.handshakes` (TLS), `python -m bench.queue` (a queue of a million), `python -m bench.policies` (policies),
and `python -m bench.spool` (the spool alone).

The figures of two runs are not comparable: a machine that does something else meanwhile gives others. The ratios are,
since the servers take turns, and each ratio is of two runs one behind the other. CPU is what all processes of a server
have used, without load and sink; it is steadier than messages a second, and says what a faster machine would do.
"""
