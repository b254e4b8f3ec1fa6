"""
What policies keep themselves (`relay.interfaces.IStore`): in memory, from where all is read, and behind it in a file.
"""
