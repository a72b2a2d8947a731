"""OpenClaw, as measured on 2026.9.6; docs/openclaw.md says what moltinit relies on."""
