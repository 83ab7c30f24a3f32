"""What is measured, for other people's tools: Prometheus, OpenTelemetry, Grafana, and servers of language models."""
