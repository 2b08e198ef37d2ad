"""The tab of the stage ``prototypes``."""
