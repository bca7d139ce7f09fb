"""Stored runs become comparisons, verdicts, tables and reports. Loads no model and no task."""
