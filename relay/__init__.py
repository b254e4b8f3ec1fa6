"""A mail relay that people program, and that keeps what it promised."""

__version__ = "0.1.0"
