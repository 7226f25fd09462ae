"""The parts of benchmarks/reconstruction.py."""
