"""Manner of a clip: descriptors that people can read, and embeddings in which clips of one manner are near."""
