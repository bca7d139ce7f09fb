"""One command a file; heavy imports stay inside functions."""
