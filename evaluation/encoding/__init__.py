"""Texts -> vectors. Knows nothing of tasks, jobs or records."""
