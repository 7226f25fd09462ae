"""Training from a data set: the order of an epoch, batches of arrays, the loader, normalisation."""
