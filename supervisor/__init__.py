"""moltinit's daemon: it keeps one agent alive in a VM that may die at any moment. It knows no agent by name."""
