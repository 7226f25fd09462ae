"""New versions of a data set from old ones: merge, filter, split, add a column, bring up to date.

A version is a folder that nobody changes. Every operation writes a new folder beside the old one, complete or not at
all; files that stay the same are hard links. What was done to which version stands in the `history` of dataset.json.
"""
