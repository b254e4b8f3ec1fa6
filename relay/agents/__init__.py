"""What carries mail away: into a mailbox, or onward."""
