"""Measurements, one file per claim: `python -m benchmarks.NAME [--quick]`."""
