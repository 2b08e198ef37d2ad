"""One tab a stage, in the order of the stages."""

from app.tabs.captions import CaptionsTab
from app.tabs.dataset import DatasetTab
from app.tabs.evaluate import EvaluateTab
from app.tabs.export import ExportTab
from app.tabs.prototypes import PrototypesTab
from app.tabs.synthesize import SynthesizeTab
from app.tabs.train import TrainTab

TABS = {
    "dataset": DatasetTab,
    "prototypes": PrototypesTab,
    "captions": CaptionsTab,
    "train": TrainTab,
    "synthesize": SynthesizeTab,
    "evaluate": EvaluateTab,
    "export": ExportTab,
}

__all__ = ["TABS"]
