"""Transports: sockets, names and deadlines, and no opinion about mail."""
