"""Stage 4, ``train``: fine-tuning with the classification-consistency loss."""
