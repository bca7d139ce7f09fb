"""The command check-regression."""
