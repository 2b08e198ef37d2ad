"""Data and generators that ship with DPD Studio and need no download."""
