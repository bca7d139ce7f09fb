"""Stored samples become scores, intervals and tests."""
