"""Where what was promised is kept until it is delivered or its sender is told."""
