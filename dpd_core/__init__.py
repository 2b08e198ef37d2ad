"""DPD Studio's engine: a labelled image archive becomes a tiny, captioned, synthetic data set.

Seven stages, in order: dataset, prototypes, captions, train, synthesize, evaluate, export.
Each reads the project folder and writes to it. Importing this package imports none of the
heavy libraries: modules that need torch import it, this one does not.
"""

__version__ = "0.1.0"

STAGES = (
    "dataset",
    "prototypes",
    "captions",
    "train",
    "synthesize",
    "evaluate",
    "export",
)
