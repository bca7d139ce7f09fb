"""What there is to be scored: mteb's tasks and benchmarks, BEIR, local data."""
