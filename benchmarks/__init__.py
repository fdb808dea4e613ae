"""Measurements: python benchmarks/run.py SUITE. Results are checked before they are timed."""
