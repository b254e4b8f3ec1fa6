"""
For those who test against the relay, ourselves included: the contracts as test kits, and a world of mail in memory.

Nothing is imported here: take what you need from the module that has it.
"""
