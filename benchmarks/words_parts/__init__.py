"""Parts of benchmarks/words.py."""
