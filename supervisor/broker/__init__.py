"""The back door: what the agent reaches through the daemon, which adds the credential that the agent must not have."""
