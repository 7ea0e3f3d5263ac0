"""The doors: HTTP, SSE, NATS services and the CLI, with settings, telemetry and the one composition root behind them."""
