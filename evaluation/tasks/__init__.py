"""What there is to be scored: mteb's tasks, benchmarks and local data."""
