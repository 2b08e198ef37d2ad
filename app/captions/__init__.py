"""The tab of the stage ``captions``."""
