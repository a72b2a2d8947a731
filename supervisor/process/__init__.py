"""One supervised agent: spawned, probed, restarted, stopped, and its output kept."""
