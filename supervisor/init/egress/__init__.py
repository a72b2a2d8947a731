"""What the agent's user may reach, as rules of the kernel's packet filter."""
