"""The tab of the stage ``dataset``."""
