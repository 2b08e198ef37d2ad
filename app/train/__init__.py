"""The tab of the stage ``train``."""
