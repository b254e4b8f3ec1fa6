"""
Where what was promised is kept until it is delivered or its sender is told.

`docs/SPOOL.md` says what is on the disk at each step, and why nothing is lost. `sqlite` and `memory` are
the two spools; everything else here serves one of them, or both.
"""
