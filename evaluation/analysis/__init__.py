"""Stored records -> frames, tables and verdicts. Loads no model and no task."""
