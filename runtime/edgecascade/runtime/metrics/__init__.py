"""The counts of a cascade: as plain numbers, for Prometheus and OpenTelemetry, and as log records."""
