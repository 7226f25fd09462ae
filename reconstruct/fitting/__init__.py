"""The clip fit in parts: its unknowns and data, derivatives, priors, solver, and what is told about the result."""
