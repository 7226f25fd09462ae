"""What the benchmarks of runs share."""
