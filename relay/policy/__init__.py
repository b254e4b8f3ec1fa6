"""Who decides where a recipient's copy goes: the chain, and the policies that are shipped."""
