"""Folders of the user's own data, checked and read."""
