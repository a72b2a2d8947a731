"""The cell in which the agent runs: a user of its own, no privileges, and a file system that ends at its own door."""
