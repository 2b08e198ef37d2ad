"""The recipe of the bundled models: the corpus, and how each part is trained on it."""

from __future__ import annotations

from dataclasses import dataclass, field

from dpd_core.bundled.corpus import CorpusRecipe
from dpd_core.bundled.training_loop import LoopRecipe


@dataclass(frozen=True)
class PretrainRecipe:
    """Everything that decides the weights, besides the images."""

    corpus: CorpusRecipe = field(default_factory=CorpusRecipe)
    vae: LoopRecipe = field(
        default_factory=lambda: LoopRecipe(
            steps=3000, batch_size=32, learning_rate=2e-3, warmup=100, ema_decay=0.998
        )
    )
    base: LoopRecipe = field(
        default_factory=lambda: LoopRecipe(
            steps=2600, batch_size=48, learning_rate=8e-4, warmup=150, ema_decay=0.998, parts=2
        )
    )
    captioner: LoopRecipe = field(
        default_factory=lambda: LoopRecipe(
            steps=2200, batch_size=48, learning_rate=1e-3, warmup=150, ema_decay=0.997
        )
    )
    scene_share: float = 0.55
