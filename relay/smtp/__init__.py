"""Both sides of the dialogue of RFC 5321, without a socket."""
