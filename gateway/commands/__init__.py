"""The commands: each parses, asks the gateway (or starts a process), and prints. Heavy imports stand inside functions."""
