"""Stage 2, ``prototypes``: what each class looks like, as a few of its own images."""
