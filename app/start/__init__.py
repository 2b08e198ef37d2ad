"""The start page: what this is, how far the project is, and the one button for all stages."""
