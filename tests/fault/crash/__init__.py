"""Death and disk trouble at every step: each system call that changes the disk is a place to die at."""
