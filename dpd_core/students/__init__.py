"""Student classifiers: what a training set is worth is what they score."""
