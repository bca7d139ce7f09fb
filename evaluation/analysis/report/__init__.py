"""Runs become one self-contained HTML page."""
