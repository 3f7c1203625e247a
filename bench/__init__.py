"""Benchmarks: ``pytest bench`` for tables of one peer each, ``python -m bench`` for ratios."""
