"""Stage 5, ``synthesize``: slots become candidates become a distilled set."""
