"""Stage 7, ``export``: a distilled set as others can load it."""
