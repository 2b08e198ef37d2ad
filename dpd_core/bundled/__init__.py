"""The recipe that made the models that come with DPD Studio; nothing of the engine needs it."""
