"""Real sFlow v5 datagrams with known truth, for the demo, tests and benchmarks."""
