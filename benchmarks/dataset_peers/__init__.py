"""What benchmarks/dataset.py measures with: the clips, the peers, one process for each measurement."""
