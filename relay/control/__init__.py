"""What an operator may ask the running relay."""
