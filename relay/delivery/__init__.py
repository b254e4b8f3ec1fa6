"""When a message is tried, where to, and what a failure means."""
