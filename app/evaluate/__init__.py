"""The tab of the stage ``evaluate``."""
