"""Stage 3, ``captions``: each cluster in words, and people's edits of them."""
