"""One command per file or folder; heavy imports stay inside functions."""
