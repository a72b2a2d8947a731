"""What the front door adds to a request: direct, through moltinit and through nginx, in one run."""
