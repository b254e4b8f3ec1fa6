"""The real twistd, as an operator starts it: its own process, real sockets, real files. All of it on loopback."""
