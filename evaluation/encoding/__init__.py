"""Texts become vectors. Knows nothing of tasks, jobs or records."""
