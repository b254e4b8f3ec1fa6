"""
The audit: the real twistd under load, killed again and again, and then every message is accounted for.

    python -m tests.faults            20 rounds, and more at exact system calls where strace may be used
    python -m tests.faults --short    4 rounds

`letters` are messages that prove themselves whole, `customers` send them, `sink` and local mailboxes get them, `audit`
does the killing, and `evidence` judges: lost = 0, refused-but-delivered = 0, corrupt = 0, duplicates counted.
"""
