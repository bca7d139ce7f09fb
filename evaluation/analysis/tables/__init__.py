"""Comparisons and runs as text tables and data files."""
