"""The parts of labels.py."""
