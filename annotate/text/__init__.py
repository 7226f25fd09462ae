"""From a transcript as people write it to words and their pronunciations."""

from annotate.text.pronounce import dictionary, pronunciations
from annotate.text.readings import cardinal
from annotate.text.tokens import Token, is_english, tokenize

__all__ = ["Token", "cardinal", "dictionary", "is_english", "pronunciations", "tokenize"]
