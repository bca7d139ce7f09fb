"""Exact top-k search over streams of vectors."""
