"""The stages as one table, and what runs, checks and compares them: jobs, staleness, verify."""
