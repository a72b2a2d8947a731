"""Settings: read once at the edge, from the environment first and a TOML file second, checked as a whole, frozen."""

from supervisor.settings.loading import load
from supervisor.settings.model import BucketSettings, Described, Settings
from supervisor.settings.options import secret_names
from supervisor.settings.secret import Secret

__all__ = ["BucketSettings", "Described", "Secret", "Settings", "load", "secret_names"]
