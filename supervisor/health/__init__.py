"""How the daemon is: its problems, its metrics, its status document, its own event loop."""
