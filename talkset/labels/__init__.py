"""Labels of a finished data set: what learns from them and what measures them."""
