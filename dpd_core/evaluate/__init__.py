"""Stage 6, ``evaluate``: what a distilled set is worth, beside real images of the same number."""
