"""Parts of `benchmarks/body.py`."""
