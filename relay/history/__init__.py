"""
What happened to messages and to refusals, for people to ask (`relay.interfaces.IHistory`); never what was promised.

It is told what the mail log is told, by way of `relay.net.teed`. Nothing is imported here.
"""
