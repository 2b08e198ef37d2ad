"""The tab of the stage ``export``."""
