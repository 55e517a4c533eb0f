"""Monitoring: health, alerts and objectives over snapshots of caches, and rules for Prometheus."""
