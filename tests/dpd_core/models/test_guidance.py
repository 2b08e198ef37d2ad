"""Every objective is raised by its own step, and looks its centres up by class name."""

from collections.abc import Callable

import pytest
import torch

from dpd_core.config import SynthesizeConfig
from dpd_core.models import guidance
from dpd_core.models.latents import Latents
from dpd_core.models.predictions import Level, shift_noise
from dpd_core.models.sampling import ModeGuidance, ObjectiveGuidance
from dpd_core.synthesize.guides import ClassContext, build_guide, class_context
from dpd_core.synthesize.resolved import resolved
from dpd_core.synthesize.strategies import STRATEGIES
from dpd_core.train.classifier import LatentClassifier

CLASSES = ["beach", "forest", "harbor"]
SLOTS = 4
TARGET = torch.tensor([0, 2, 1])


def latents(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def classifier() -> LatentClassifier:
    torch.manual_seed(0)
    return LatentClassifier(CLASSES, 4).eval().requires_grad_(False)


def collection() -> tuple[Latents, dict[str, str], dict[str, list[str]]]:
    """Latents of six images a class, their classes, and the prototypes of each class."""
    ids = [f"{name}/{number}.png" for name in CLASSES for number in range(6)]
    labels = {image_id: image_id.split("/")[0] for image_id in ids}
    prototypes = {name: [f"{name}/{number}.png" for number in range(SLOTS)] for name in CLASSES}
    mean = latents(1, len(ids))
    return Latents(ids, mean, torch.zeros_like(mean), "key"), labels, prototypes


def made(name: str, classifier: LatentClassifier, class_names: list[str]) -> ObjectiveGuidance:
    known, labels, prototypes = collection()
    how = resolved(SynthesizeConfig(strategy=name, selection="margin"))
    context = class_context(prototypes, labels, known, classifier, how, seed=0)
    own = torch.stack([known.of(f"{class_name}/0.png").mean for class_name in class_names])
    guide = build_guide(how, context, classifier, class_names, own, own)
    assert isinstance(guide, ObjectiveGuidance)
    return guide


@pytest.mark.parametrize("name", ["classifier", "information", "learnability", "influence"])
def test_a_step_raises_the_objective_it_claims(name: str, classifier: LatentClassifier) -> None:
    guide = made(name, classifier, ["beach", "harbor", "forest"])
    clean = latents(2, 3)
    before = guide.objective(clean)
    # One small step of the guide itself, with z_t standing for the clean latent.
    stepped, shift = ObjectiveGuidance(guide.objective, scale=0.02).apply(
        clean, clean, Level.of(torch.tensor(0.0))
    )
    assert shift is None
    assert (guide.objective(stepped) > before).all()


@pytest.mark.parametrize("name", ["classifier", "information", "learnability", "influence"])
def test_a_sample_is_led_alike_whoever_is_beside_it(
    name: str, classifier: LatentClassifier
) -> None:
    clean = latents(3, 3)
    together = made(name, classifier, ["beach", "harbor", "forest"]).objective(clean)
    turned = made(name, classifier, ["forest", "beach", "harbor"]).objective(clean.roll(1, 0))
    assert torch.allclose(together, turned.roll(-1, 0), atol=1e-5)


def test_memory_is_looked_up_by_class_name_not_by_place() -> None:
    known, _, prototypes = collection()
    stacks = {
        name: torch.stack([known.of(image_id).mean for image_id in ids])
        for name, ids in prototypes.items()
    }
    own = torch.stack([stacks["harbor"][1], stacks["beach"][0]])
    for order in (CLASSES, CLASSES[::-1]):
        around = ClassContext({name: stacks[name] for name in order})
        memory = around.memory(["harbor", "beach"], own)
        assert torch.equal(memory[0], stacks["harbor"][[0, 2, 3]])
        assert torch.equal(memory[1], stacks["beach"][[1, 2, 3]])


def test_a_class_with_fewer_prototypes_repeats_its_own() -> None:
    few, many = latents(4, 2), latents(5, 4)
    around = ClassContext({"few": few, "many": many})
    memory = around.memory(["few", "many"], torch.stack([few[0], many[0]]))
    assert memory.shape[1] == 3
    assert all(torch.equal(memory_of_class, few[1]) for memory_of_class in memory[0])


def test_mode_guidance_is_the_published_formula() -> None:
    clean, mode, alpha_bar = latents(6, 2), latents(7, 2), torch.tensor(0.36)
    shift = guidance.mode_noise(clean, mode, level=Level.of(alpha_bar), scale=0.1)
    assert torch.allclose(shift, -0.8 * 0.1 * (mode - clean), atol=1e-6)


def test_mode_guidance_brings_the_clean_latent_nearer_to_the_mode() -> None:
    """For each parametrisation: the clean latent implied by the changed output is nearer."""
    z_t, mode, alpha_bar = latents(8, 2), latents(9, 2), torch.tensor(0.5)
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    implied: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "epsilon": lambda output: (z_t - noise * output) / signal,
        "v_prediction": lambda output: signal * z_t - noise * output,
        "sample": lambda output: output,
    }
    for prediction, to_clean in implied.items():
        output = latents(10, 2)
        clean = to_clean(output)
        _, shift = ModeGuidance(mode, 0.1).apply(z_t, clean, Level.of(alpha_bar))
        assert shift is not None
        shifted = shift_noise(prediction, output, shift, Level.of(alpha_bar))
        # ε̂ changes by −√(1−ᾱ)·λ·(m − ẑ₀), hence ẑ₀ by (1−ᾱ)/√ᾱ · λ · (m − ẑ₀).
        expected = clean + (1 - alpha_bar) / signal * 0.1 * (mode - clean)
        assert torch.allclose(to_clean(shifted), expected, atol=1e-5), prediction


def test_where_nothing_is_known_of_the_clean_latent_the_output_stays() -> None:
    output = latents(11, 1)
    for prediction in ("v_prediction", "sample"):
        shifted = shift_noise(prediction, output, latents(12, 1), Level.of(torch.tensor(0.0)))
        assert torch.equal(shifted, output)


def test_repulsion_and_similarity_move_apart() -> None:
    clean, memory = latents(13, 2), latents(14, 2, 3)
    away = guidance.ascend(
        clean,
        clean,
        lambda z: guidance.repulsion(z, memory),
        level=Level.of(torch.tensor(0.0)),
        scale=0.5,
    )
    assert (guidance.repulsion(away, memory) > guidance.repulsion(clean, memory)).all()
    apart = guidance.ascend(
        clean,
        clean,
        lambda z: -guidance.nearest_similarity(z, memory),
        level=Level.of(torch.tensor(0.0)),
        scale=0.5,
    )
    assert (
        guidance.nearest_similarity(apart, memory) < guidance.nearest_similarity(clean, memory)
    ).all()


def test_the_last_layer_gradient_is_what_autograd_says() -> None:
    torch.manual_seed(1)
    features, head = torch.randn(3, 5), torch.nn.Linear(5, 3)
    closed = guidance.last_layer_gradient(features, head(features), TARGET)
    for row in range(3):
        loss = torch.nn.functional.cross_entropy(
            head(features[row : row + 1]), TARGET[row : row + 1]
        )
        (expected,) = torch.autograd.grad(loss, head.weight)
        assert torch.allclose(closed[row], expected, atol=1e-6)


def test_an_objective_without_gradient_leaves_the_latent() -> None:
    clean = latents(15, 2)
    same = guidance.ascend(
        clean, clean, lambda z: (z * 0).sum((1, 2, 3)), level=Level.of(torch.tensor(0.5)), scale=1.0
    )
    assert torch.equal(same, clean)


def test_one_image_a_class_has_nothing_to_spread_over() -> None:
    logits, clean, memory = torch.randn(3, 3), latents(16, 3), latents(17, 3, 2)
    alone = guidance.information(logits, TARGET, clean, memory, ipc=1, beta=1.0)
    assert torch.allclose(alone, guidance.log_probability(logits, TARGET))
    several = guidance.information(logits, TARGET, clean, memory, ipc=10, beta=1.0)
    assert (several > alone).all()


def test_every_strategy_says_where_it_is_from() -> None:
    for name, strategy in STRATEGIES.items():
        assert strategy.source, name
        assert strategy.description.endswith("."), name
        assert strategy.formula or name == "template"
