"""The front door: one port for health, the admin API and the agent's gateway.

Nothing is imported here: `early` has to answer before the heavier modules are loaded.
"""
