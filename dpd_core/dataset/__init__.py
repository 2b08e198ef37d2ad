"""Stage 1, ``dataset``: labelled images from anywhere, checked, split and listed in an index."""
