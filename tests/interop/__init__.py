"""The relay among others' programs, each the real one from its Debian package. All of it on loopback."""
