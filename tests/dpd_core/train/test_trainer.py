"""LoRA training: the losses, the record, and that a stop or a kill costs nothing."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from dpd_core.config import ProjectConfig, TrainConfig
from dpd_core.errors import JobStopped, ModelError
from dpd_core.events import Event, Metric, Progress
from dpd_core.hardware import choose_hardware
from dpd_core.models.predictions import min_snr_weights
from dpd_core.models.weights import find
from dpd_core.train.trainer import Batch, learning_rate
from tests.support.trainers import CPU, QUICK, trainer


def stop_after(steps: int):
    """An emitter that asks for a stop once so many steps are counted."""

    def emit(event: Event) -> None:
        if isinstance(event, Progress) and event.done >= steps:
            raise JobStopped("stopped")

    return emit


@pytest.mark.parametrize("targets", ["all", "whole"])
def test_a_stopped_and_resumed_training_is_the_uninterrupted_one(
    v_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, targets: str
) -> None:
    config = QUICK.replace(targets=targets)
    whole = trainer(v_model, tmp_path / "whole", config)
    expected = whole.fit()
    monkeypatch.setattr("dpd_core.events.time.monotonic", iter(range(10**6)).__next__)
    interrupted = trainer(v_model, tmp_path / "parts", config)
    with pytest.raises(JobStopped):
        interrupted.fit(stop_after(2))
    assert interrupted.checkpoint.exists()
    assert not find(tmp_path / "parts").exists()
    resumed = trainer(v_model, tmp_path / "parts", config)
    counted: list[int] = []
    result = resumed.fit(lambda e: counted.append(e.done) if isinstance(e, Progress) else None)
    assert counted[0] == 2, "it must go on from the checkpoint"
    straight, in_parts = (load_file(find(tmp_path / name)) for name in ("whole", "parts"))
    assert straight.keys() == in_parts.keys()
    assert all(torch.equal(straight[key], in_parts[key]) for key in straight)
    assert result == expected


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"\x02" + bytes(7) + b"{}" + bytes(9)])
def test_a_damaged_checkpoint_is_named_with_the_way_out(
    v_model: Path, tmp_path: Path, content: bytes
) -> None:
    training = trainer(v_model, tmp_path)
    training.checkpoint.write_bytes(content)
    with pytest.raises(ModelError, match="the checkpoint is damaged") as caught:
        training.fit()
    assert caught.value.fix and caught.value.where == str(training.checkpoint)


def test_a_learning_rate_that_diverges_is_named_and_the_checkpoint_stays_finite(
    v_model: Path, tmp_path: Path
) -> None:
    config = QUICK.replace(
        # A short warm-up: AdamW follows a long one through any learning rate.
        steps=60,
        checkpoint_steps=1,
        learning_rate=1.0,
        targets="whole",
        warmup_steps=5,
    )
    wild = trainer(v_model, tmp_path, config)
    with pytest.raises(ModelError, match=r"learning_rate: the training diverged") as caught:
        wild.fit()
    assert "learning rate below 1" in str(caught.value.fix)
    assert not find(tmp_path).exists(), "nothing is handed out as finished"
    kept = load_file(wild.checkpoint)
    assert all(torch.isfinite(value).all() for value in kept.values())


def test_a_training_goes_on_after_a_loss_that_was_no_number(
    v_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = QUICK.replace(checkpoint_steps=1)
    expected = trainer(v_model, tmp_path / "whole", config).fit()
    ill = trainer(v_model, tmp_path / "ill", config)
    losses = ill.losses

    def broken(batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        loss, values = losses(batch)
        if ill.checkpoint.exists():  # from the second step on, as a card that overflows would do
            return loss * torch.nan, {**values, "loss": float("nan")}
        return loss, values

    monkeypatch.setattr(ill, "losses", broken)
    with pytest.raises(ModelError, match="the loss became nan in step 2"):
        ill.fit()
    assert trainer(v_model, tmp_path / "ill", config).fit() == expected


def test_without_weight_it_is_plain_diffusion_training(v_model: Path, tmp_path: Path) -> None:
    plain = trainer(v_model, tmp_path / "plain", QUICK.replace(consistency_weight=0.0))
    plain.classifier = SimpleNamespace()  # must not be called
    values = plain.step(0)
    assert set(values) == {"diffusion", "loss"}
    assert values["loss"] == values["diffusion"]


def test_the_consistency_loss_makes_the_clean_latent_more_of_its_class(
    v_model: Path, tmp_path: Path
) -> None:
    strong = trainer(
        v_model,
        tmp_path / "strong",
        QUICK.replace(consistency_weight=20.0, learning_rate=2e-2, batch_size=7, warmup_steps=0),
    )
    batch = strong.draw(0)
    with torch.no_grad():
        before = strong.losses(batch)[1]["consistency"]
    for _ in range(40):
        loss, _values = strong.losses(batch)
        loss.backward()
        strong.optimizer.step()
        strong.optimizer.zero_grad()
    with torch.no_grad():
        after = strong.losses(batch)[1]["consistency"]
    assert after < 0.8 * before


def test_consistency_is_asked_only_where_the_prediction_means_something(
    v_model: Path, tmp_path: Path
) -> None:
    picky = trainer(v_model, tmp_path / "picky", QUICK.replace(consistency_max_noise=0.3))
    batch = picky.draw(0)
    noisy = Batch(
        batch.clean,
        batch.noise,
        torch.full_like(batch.timesteps, 900),
        batch.embeddings,
        batch.labels,
    )
    assert "consistency" not in picky.losses(noisy)[1]
    clear = Batch(
        batch.clean,
        batch.noise,
        torch.full_like(batch.timesteps, 100),
        batch.embeddings,
        batch.labels,
    )
    assert picky.losses(clear)[1]["consistency"] > 0


def test_the_frozen_networks_stay_as_they_are(v_model: Path, tmp_path: Path) -> None:
    training = trainer(v_model, tmp_path / "one")
    frozen = {
        name: value.clone()
        for name, value in training.unwrapped.named_parameters()
        if not value.requires_grad
    }
    weights = {name: value.clone() for name, value in training.classifier.state_dict().items()}
    training.fit()
    now = dict(training.unwrapped.named_parameters())
    assert all(torch.equal(value, now[name]) for name, value in frozen.items())
    assert all(
        torch.equal(value, weights[name])
        for name, value in training.classifier.state_dict().items()
    )


def test_one_process_can_train_in_two_precisions(v_model: Path, tmp_path: Path) -> None:
    half = choose_hardware(ProjectConfig(device="cpu", dtype="bfloat16"))
    for number, hardware in enumerate((half, CPU)):
        values = trainer(v_model, tmp_path / str(number), hardware=hardware).step(0)
        assert values["loss"] > 0


def test_every_image_is_seen_once_an_epoch(v_model: Path, tmp_path: Path) -> None:
    training = trainer(v_model, tmp_path / "one", QUICK.replace(batch_size=7))
    assert sorted(training._rows(0)) == list(range(7))
    assert sorted(training._rows(1)) == list(range(7))
    assert training._rows(0) != training._rows(1)


def test_two_processes_share_the_batch_of_one(
    v_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = trainer(v_model, tmp_path / "one", QUICK.replace(batch_size=4))
    whole = training.draw(5)
    parts = []
    for index in range(2):
        training.accelerator = SimpleNamespace(
            process_index=index, num_processes=2, device=torch.device("cpu")
        )
        parts.append(training.draw(5))
    for name in ("clean", "noise", "timesteps", "labels"):
        merged = torch.stack([getattr(part, name) for part in parts], 1).flatten(0, 1)
        assert torch.equal(merged, getattr(whole, name)), name


def test_the_record_says_what_was_measured(v_model: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    trainer(v_model, tmp_path / "one").fit(events.append)
    metrics = [event for event in events if isinstance(event, Metric)]
    assert metrics[-1].step == QUICK.steps
    assert {"diffusion", "consistency", "classifier_accuracy", "loss"} <= set(metrics[-1].values)


def test_held_out_images_are_measured_and_change_nothing(v_model: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    plain = trainer(v_model, tmp_path / "plain")
    assert plain.fit() == trainer(v_model, tmp_path / "with", held_out=True).fit(events.append)
    (told,) = [event for event in events if isinstance(event, Metric)]
    assert told.values["validation"] > 0
    first = load_file(find(tmp_path / "plain"))
    again = load_file(find(tmp_path / "with"))
    assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_the_held_out_loss_is_of_the_model_alone(v_model: Path, tmp_path: Path) -> None:
    config = QUICK.replace(learning_rate=2e-2, warmup_steps=0, consistency_weight=0.0)
    training = trainer(v_model, tmp_path / "one", config, held_out=True)
    before = training.validation_loss()
    assert training.validation_loss() == before
    training.step(0)
    assert training.validation_loss() != before


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("epsilon", [1.0, 5 / 9]), ("v_prediction", [0.5, 0.5]), ("sample", [1.0, 5.0])],
)
def test_min_snr_weights_follow_the_paper(kind: str, expected: list[float]) -> None:
    alphas = torch.tensor([0.5, 0.9])  # signal-to-noise ratios 1 and 9
    weights = min_snr_weights(alphas, gamma=5.0, prediction_type=kind)
    assert weights.tolist() == pytest.approx(expected, rel=1e-4)
    assert min_snr_weights(alphas, gamma=0.0, prediction_type=kind).tolist() == [1.0, 1.0]
    ends = min_snr_weights(torch.tensor([0.0, 0.9999]), gamma=5.0, prediction_type=kind)
    assert torch.isfinite(ends).all()


def test_the_learning_rate_warms_up_and_then_keeps_or_falls() -> None:
    config = TrainConfig(steps=100, warmup_steps=10, learning_rate=1.0)
    assert learning_rate(config, 0) == pytest.approx(0.1)
    assert learning_rate(config, 9) == learning_rate(config, 99) == 1.0
    cosine = config.replace(schedule="cosine")
    assert learning_rate(cosine, 10) == 1.0
    assert learning_rate(cosine, 55) == pytest.approx(0.5)
    assert learning_rate(cosine, 99) < 0.01
