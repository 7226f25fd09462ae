"""Bodies and hands of a clip: detection, fit and quality."""
