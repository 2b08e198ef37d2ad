"""The latent classifier: recipe, learning, resuming, caching, and gradients to the latent."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dpd_core.errors import DatasetError, JobStopped, ProjectError
from dpd_core.events import Event, Log, Metric, Progress
from dpd_core.hardware import Hardware
from dpd_core.models.latents import Latents
from dpd_core.train.classifier import LatentClassifier, read_classifier
from dpd_core.train.classifier_training import learning_rate, split_rows, train_classifier

CPU = Hardware(torch.device("cpu"), torch.float32, "test")


def examples(per_class: int = 12, channels: int = 4, side: int = 4) -> tuple[Latents, list[str]]:
    """Three classes that differ in where the first channel is bright, so that flips keep them."""
    draw = torch.Generator().manual_seed(0)
    labels = [name for name in ("river", "forest", "road") for _ in range(per_class)]
    mean = 0.3 * torch.randn(len(labels), channels, side, side, generator=draw)
    for row, label in enumerate(labels):
        mean[row, {"river": 0, "forest": 1, "road": 2}[label]] += 1.0
    ids = [f"{label}/{row:03d}.png" for row, label in enumerate(labels)]
    return Latents(ids, mean, torch.full_like(mean, 0.1), "key"), labels


def fit(folder: Path, *, epochs: int = 5, emit=lambda event: None, **given) -> LatentClassifier:
    latents, labels = examples()
    settings = {"seed": 3, "hardware": CPU, "folder": folder, **given}
    return train_classifier(latents, labels, epochs=epochs, emit=emit, **settings)


def parameters(classifier: LatentClassifier) -> torch.Tensor:
    return torch.cat([value.flatten().float() for value in classifier.state_dict().values()])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> LatentClassifier:
    return fit(tmp_path_factory.mktemp("classifier"), epochs=40)


def test_architecture_has_the_published_widths_blocks_and_strides() -> None:
    model = LatentClassifier(["a", "b"], channels=4)
    shapes = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
    assert model(torch.zeros(2, 4, 16, 16)).shape == (2, 2)
    assert shapes == [(64, 16, 16)] * 2 + [(128, 8, 8)] * 2 + [(256, 4, 4)] * 2
    assert model.dropout.p == 0.1


def test_learning_rate_warms_up_five_epochs_and_falls_to_nearly_nothing() -> None:
    rates = [learning_rate(epoch, 200) for epoch in range(200)]
    assert rates[0] == pytest.approx(1e-5)
    assert rates[5] == max(rates) == pytest.approx(1e-3)
    assert rates[:6] == sorted(rates[:6])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] == pytest.approx(1e-6, abs=1e-7)
    assert learning_rate(0, 1) == pytest.approx(1e-3)


def test_validation_split_is_a_tenth_of_each_class_whatever_the_order() -> None:
    ids = [f"a/{n}" for n in range(30)] + [f"b/{n}" for n in range(2)]
    labels = ["a"] * 30 + ["b"] * 2
    train, validation = split_rows(ids, labels, seed=0)
    assert sorted(train + validation) == list(range(32))
    assert [labels[row] for row in validation] == ["a"] * 3 + ["b"]
    _, backwards = split_rows(ids[::-1], labels[::-1], seed=0)
    assert {ids[::-1][row] for row in backwards} == {ids[row] for row in validation}
    assert split_rows(ids, labels, seed=1)[1] != validation


def test_it_learns_and_names_its_columns(trained: LatentClassifier) -> None:
    latents, labels = examples()
    assert trained.classes == ["forest", "river", "road"]
    predicted = [trained.classes[k] for k in trained(latents.mean).argmax(1).tolist()]
    right = sum(a == b for a, b in zip(predicted, labels, strict=True))
    assert right >= 0.9 * len(labels)
    assert trained.metadata["validation_accuracy"] >= 0.6
    assert trained.metadata["train"] + trained.metadata["validation"] == len(labels)


def test_frozen_use_is_float32_deterministic_and_lets_gradients_through(
    trained: LatentClassifier,
) -> None:
    z = torch.randn(2, 4, 4, 4, requires_grad=True)
    assert not any(parameter.requires_grad for parameter in trained.parameters())
    assert torch.equal(trained(z), trained(z)), "dropout is on"
    logits = trained(z.to(torch.bfloat16))
    assert logits.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert trained(z).dtype == torch.float32
    trained(z)[:, 0].sum().backward()
    assert z.grad is not None
    assert (z.grad.flatten(1).norm(dim=1) > 0).all()


def test_a_stopped_run_resumes_to_the_weights_of_an_undisturbed_one(tmp_path: Path) -> None:
    def stop_at_first_validation(event: Event) -> None:
        if isinstance(event, Metric):
            raise JobStopped("asked to stop")

    whole = fit(tmp_path / "whole", epochs=7)
    with pytest.raises(JobStopped):
        fit(tmp_path / "parts", epochs=7, emit=stop_at_first_validation)
    events: list[Event] = []
    torch.manual_seed(99)  # as a new process would: the global generator is anywhere
    resumed = fit(tmp_path / "parts", epochs=7, emit=events.append)
    assert next(e.done for e in events if isinstance(e, Progress)) == 5
    assert torch.equal(parameters(whole), parameters(resumed))
    assert whole.metadata == resumed.metadata
    assert not list(tmp_path.rglob("checkpoint.safetensors"))


def test_a_damaged_checkpoint_is_reported_and_training_starts_again(tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Metric):
            raise JobStopped("asked to stop")

    with pytest.raises(JobStopped):
        fit(tmp_path, emit=stop)
    (checkpoint,) = tmp_path.rglob("checkpoint.safetensors")
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    events: list[Event] = []
    again = fit(tmp_path, emit=events.append)
    assert any(isinstance(e, Log) and "damaged" in e.message for e in events)
    assert torch.equal(parameters(again), parameters(fit(tmp_path / "other")))


def test_a_trained_one_is_found_again_and_another_recipe_is_another(tmp_path: Path) -> None:
    first = fit(tmp_path, epochs=2)
    events: list[Event] = []
    second = fit(tmp_path, epochs=2, emit=events.append)
    assert not events, "it was trained again"
    assert torch.equal(parameters(first), parameters(second))
    assert second.metadata == first.metadata
    assert len(list(tmp_path.iterdir())) == 1
    assert fit(tmp_path, epochs=2, seed=4).metadata["key"] != first.metadata["key"]
    assert fit(tmp_path, epochs=3).metadata["key"] != first.metadata["key"]


def test_max_steps_shortens_the_training_and_says_so(tmp_path: Path) -> None:
    events: list[Event] = []
    short = fit(tmp_path, epochs=50, max_steps=2, emit=events.append)
    assert short.metadata["epochs"] == 2
    assert any(isinstance(e, Log) and "2 of 50 epochs" in e.message for e in events)
    steps = [e.step for e in events if isinstance(e, Metric)]
    assert steps == [2]


def test_bfloat16_training_keeps_half_weights_and_computes_in_float32(tmp_path: Path) -> None:
    hardware = Hardware(torch.device("cpu"), torch.bfloat16, "test")
    classifier = fit(tmp_path, epochs=1, hardware=hardware)
    (file,) = tmp_path.rglob("classifier.safetensors")
    assert {value.dtype for value in load_file(file).values()} == {torch.float16, torch.int64}
    assert classifier.head.weight.dtype == torch.float32
    assert classifier(torch.zeros(1, 4, 4, 4)).dtype == torch.float32


def test_sixteen_channels_and_tiny_latents_with_an_odd_image_over(tmp_path: Path) -> None:
    latents, labels = examples(per_class=48, channels=16, side=4)
    assert len(split_rows(latents.ids, labels, 0)[0]) == 129, "one more than a batch"
    classifier = train_classifier(latents, labels, epochs=1, seed=0, hardware=CPU, folder=tmp_path)
    assert classifier(latents.mean[:1]).shape == (1, 3)


def test_too_few_classes_or_images_are_refused_by_name(tmp_path: Path) -> None:
    latents, labels = examples(per_class=2)
    first = Latents(latents.ids[:2], latents.mean[:2], latents.std[:2], "key")
    with pytest.raises(DatasetError, match="two classes"):
        train_classifier(first, ["river"] * 2, epochs=1, seed=0, hardware=CPU, folder=tmp_path)
    with pytest.raises(DatasetError, match="single training image"):
        train_classifier(
            latents, [*labels[:5], "lonely"], epochs=1, seed=0, hardware=CPU, folder=tmp_path
        )


def test_a_damaged_classifier_is_refused_with_a_remedy(tmp_path: Path) -> None:
    key = fit(tmp_path, epochs=1).metadata["key"]
    weights = tmp_path / key / "classifier.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ProjectError, match="Delete the folder"):
        read_classifier(tmp_path / key)
