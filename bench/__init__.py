"""
How fast the relay is, beside other servers in the same run on the same machine: a report in Markdown.

    make bench                          what has a target, and a little more: at most twenty minutes
    make bench ARGS="--quick"           the same in one round of shorter runs: some six minutes
    make bench-full                     every size, number of sessions and route: up to two and a half hours
    make bench ARGS="--save docs"       write docs/speed.json and docs/speed.svg, too
    make bench ARGS="--alone --against HEAD~1"    before and after, in one run

It measures the relay with one worker and with two, Postfix, Haraka, aiosmtpd and twisted.mail, each as one would run it
(the report prints how), and the load straight into smtp-sink, which is the ceiling. As root it installs what is missing
from Debian and npm; what cannot be had is named with the reason. `python -m bench.spool` (the spool alone), `python -m
bench.policies` (policies) and `python -m bench.handshakes` (TLS against Twisted's) are for who works on these.

The figures of two runs are not comparable: a machine that does something else meanwhile gives others. The ratios are,
since the servers take turns, and each ratio is of two runs one behind the other. CPU is what all processes of a server
have used, without load and sink; it is steadier than messages a second, and says what a faster machine would do.
"""
