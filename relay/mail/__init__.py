"""What mail is: values, and nothing that waits, reads or writes."""
