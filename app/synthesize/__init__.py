"""The tab of the stage ``synthesize``."""
