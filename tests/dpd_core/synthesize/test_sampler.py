"""Slots to candidates to chosen images: the same alone and together, keyed by name."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from dpd_core.config import ProjectConfig, SynthesizeConfig
from dpd_core.errors import ModelError
from dpd_core.hardware import choose_hardware
from dpd_core.models.backbone import Backbone
from dpd_core.models.latents import Latents
from dpd_core.prototypes.files import Slot
from dpd_core.students import copies
from dpd_core.synthesize.guard import CopyGuard
from dpd_core.synthesize.guides import class_context
from dpd_core.synthesize.records import SlotRecord
from dpd_core.synthesize.resolved import resolved
from dpd_core.synthesize.sampler import Sampler, SlotTask
from dpd_core.synthesize.starts import MemberStarts
from dpd_core.synthesize.strategies import STRATEGIES, get_strategy
from dpd_core.train.classifier import LatentClassifier
from tests.support.models import save_model

CPU = choose_hardware(ProjectConfig(device="cpu", dtype="float32"))
CLASSES = ["beach", "forest", "harbor"]
CONFIG = SynthesizeConfig(steps=4, candidates=3, batch_size=6, cfg=2.0, scheduler="dpm++")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder = save_model(tmp_path_factory.mktemp("tiny"), prediction_type="v_prediction")
    return Backbone.load(str(folder), hardware=CPU, image_size=32)


def sampler(
    backbone: Backbone,
    config: SynthesizeConfig = CONFIG,
    seed: int = 0,
) -> Sampler:
    torch.manual_seed(2)
    classifier = LatentClassifier(CLASSES, 4)
    ids = [f"{name}/{number}.png" for name in CLASSES for number in range(2)]
    mean = torch.randn(len(ids), *backbone.latent_shape, generator=torch.Generator().manual_seed(1))
    latents = Latents(ids, mean, torch.zeros_like(mean), "key")
    labels = {image: image.split("/")[0] for image in ids}
    prototypes = {name: [image for image in ids if labels[image] == name] for name in CLASSES}
    how = resolved(config)
    return Sampler(
        backbone,
        how,
        seed,
        latents=latents,
        classifier=classifier.eval(),
        context=class_context(prototypes, labels, latents, classifier, how, seed=seed),
        starts=MemberStarts(
            {Slot(name, k): prototypes[name] for name in CLASSES for k in range(2)}, _image
        ),
    )


def _image(image_id: str) -> np.ndarray:
    draws = np.random.default_rng(sum(image_id.encode()))
    return draws.integers(0, 256, (32, 32, 3), dtype=np.uint8)


def task(class_name: str, number: int, text: str | None = None) -> SlotTask:
    caption = text or f"A satellite image of {class_name}"
    return SlotTask(Slot(class_name, number), caption, f"{class_name}/{number}.png", 1)


def fill(filling: Sampler, tasks: list[SlotTask]) -> dict[Slot, tuple[SlotRecord, np.ndarray]]:
    return {done.slot: (record, images) for done, record, images in filling.fill(tasks)}


def test_a_slot_made_alone_is_the_same_image(backbone: Backbone) -> None:
    filling = sampler(backbone)
    tasks = [task(name, slot) for name in CLASSES for slot in range(2)]
    together = fill(filling, tasks)
    for alone in (tasks[3], tasks[5]):
        record, images = fill(filling, [alone])[alone.slot]
        expected_record, expected = together[alone.slot]
        assert np.array_equal(images, expected)
        assert record == expected_record


def test_the_order_and_the_other_classes_do_not_matter(backbone: Backbone) -> None:
    filling = sampler(backbone)
    tasks = [task(name, slot) for name in CLASSES for slot in range(2)]
    forward, backward = fill(filling, tasks), fill(filling, tasks[::-1])
    assert all(np.array_equal(forward[key][1], backward[key][1]) for key in forward)


def test_a_neighbour_with_a_long_caption_changes_nothing(backbone: Backbone) -> None:
    filling = sampler(backbone)
    alone = fill(filling, [task("beach", 0)])["beach", 0]
    beside = fill(filling, [task("beach", 0), task("forest", 0, "many trees " * 30)])
    assert np.array_equal(alone[1], beside["beach", 0][1])
    assert len(beside) == 2


def test_candidates_differ_and_the_best_by_margin_is_chosen(backbone: Backbone) -> None:
    record, images = fill(sampler(backbone), [task("harbor", 1)])["harbor", 1]
    assert len(record.candidates) == len(images) == 3
    assert not np.array_equal(images[0], images[1])
    scores = [candidate.score for candidate in record.candidates]
    assert record.chosen == scores.index(max(scores))
    assert len({candidate.seed for candidate in record.candidates}) == 3
    assert record.is_right == (record.score > 0)


def test_another_project_seed_makes_other_images(backbone: Backbone) -> None:
    first = fill(sampler(backbone, seed=0), [task("beach", 0)])["beach", 0][1]
    second = fill(sampler(backbone, seed=1), [task("beach", 0)])["beach", 0][1]
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_fills_a_slot_alone_as_together(backbone: Backbone, strategy: str) -> None:
    filling = sampler(backbone, CONFIG.replace(strategy=strategy))
    tasks = [task(name, slot) for name in CLASSES for slot in range(2)]
    together = fill(filling, tasks)
    record, images = fill(filling, [tasks[2]])["forest", 0]
    assert images.shape == (3, 32, 32, 3)
    assert np.array_equal(images, together["forest", 0][1])
    assert record == together["forest", 0][0]
    if get_strategy(strategy).rule == "first":
        assert record.chosen == 0


def test_starts_of_members_are_on_record_and_differ_from_the_prototypes(
    backbone: Backbone,
) -> None:
    config = CONFIG.replace(strategy="dpd+", candidates=3, strength=0.5)
    record, images = fill(sampler(backbone, config), [task("beach", 0)])["beach", 0]
    assert all(len(candidate.members) == 2 for candidate in record.candidates)
    assert {i for c in record.candidates for i in c.members} <= {"beach/0.png", "beach/1.png"}
    plain, others = fill(sampler(backbone, config.replace(strategy="d4m")), [task("beach", 0)])[
        "beach", 0
    ]
    assert not any(candidate.members for candidate in plain.candidates)
    assert not np.array_equal(images, others)


def test_candidates_too_near_to_a_real_image_are_refused(backbone: Backbone) -> None:
    config = CONFIG.replace(strategy="d4m", selection="first", candidates=3)
    filling = sampler(backbone, config)
    _, images = fill(filling, [task("beach", 0)])["beach", 0]
    # The first image is a training image; turned, so that only all orientations find it.
    filling.guard = CopyGuard(
        copies.prepare(np.stack([np.rot90(images[0]), np.rot90(images[0], 2)])),
        ["a", "b"],
        features=0.99,
        layout=0.99,
        hardware=CPU,
    )
    record, _ = fill(filling, [task("beach", 0)])["beach", 0]
    assert [candidate.refused for candidate in record.candidates] == [True, False, False]
    assert record.chosen == 1
    assert record.candidates[0].layout == pytest.approx(1.0, abs=1e-3)
    filling.guard = dataclasses.replace(filling.guard, layout=-1.0)
    record, _ = fill(filling, [task("beach", 0)])["beach", 0]
    assert all(candidate.refused for candidate in record.candidates)
    assert record.chosen != 0, "where all are refused, the one that is least near"


def test_a_selection_rule_overrules_the_strategys(backbone: Backbone) -> None:
    record, _ = fill(sampler(backbone, CONFIG.replace(selection="first")), [task("beach", 0)])[
        "beach", 0
    ]
    assert record.chosen == 0


def test_the_recipe_says_all_that_a_strategy_does() -> None:
    definition = get_strategy("dpd+").definition
    json.dumps(definition, allow_nan=False)
    assert definition["cfg"] == 1.0
    for name, value in {"cfg": 3.0, "strength": 0.4, "rule": "first", "start": "prototype"}.items():
        changed = dataclasses.replace(get_strategy("dpd+"), **{name: value})
        assert changed.definition != definition, name
    renamed = dataclasses.replace(get_strategy("dpd+"), description="other words")
    assert renamed.definition == definition


@pytest.mark.parametrize("strategy", ["dpd", "d4m", "dpd+"])
def test_the_strategy_gives_the_guidance_scale_that_is_left_to_it(
    backbone: Backbone, strategy: str
) -> None:
    own = get_strategy(strategy).cfg

    def image(cfg: float | None) -> np.ndarray:
        filling = sampler(backbone, CONFIG.replace(strategy=strategy, cfg=cfg, strength=1.0))
        return fill(filling, [task("beach", 0)])["beach", 0][1]

    assert np.array_equal(image(None), image(own))
    assert not np.array_equal(image(None), image(own + 3))


def test_sampler_refuses_what_is_not_finite(backbone: Backbone) -> None:
    filling = sampler(backbone)
    broken = filling.backbone.denoiser.conv_out.bias
    before = broken.detach().clone()
    try:
        broken.data.fill_(float("nan"))
        with pytest.raises(ModelError, match="beach/0.*not finite"):
            list(filling.fill([task("beach", 0)]))
    finally:
        broken.data.copy_(before)
