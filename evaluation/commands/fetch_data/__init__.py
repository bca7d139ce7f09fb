"""The command fetch-data."""
