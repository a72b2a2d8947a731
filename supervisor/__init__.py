"""moltinit: the init process that lets an AI agent live in VMs that die."""

__version__ = "0.1.0"
