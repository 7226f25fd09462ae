"""A language model that describes clips from their words and numbers, behind any OpenAI-compatible endpoint."""
