"""What the services share: errors, the server, telemetry, configuration and channels."""
