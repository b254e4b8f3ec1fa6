"""What an operator asks of a relay that is several processes: asked of each, and told as one."""
