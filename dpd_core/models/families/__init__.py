"""Families of text-to-image models, a module each: what differs between them, and nothing else."""
