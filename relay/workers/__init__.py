"""Several processes that are one relay: what the parent does about its workers, and what a worker does otherwise."""
