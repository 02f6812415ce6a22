"""Benchmarks: each verifies the answer before it times anything, and reports ratios within one run."""
