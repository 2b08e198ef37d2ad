"""Students: learning, determinism, features, augmentation, and what they refuse."""

import numpy as np
import pytest
import torch

from dpd_core.errors import ConfigError, DatasetError, JobStopped, ModelError
from dpd_core.hardware import Hardware
from dpd_core.students import training as students

HARDWARE = Hardware(torch.device("cpu"), torch.float32, "for the tests")


def stripes(count: int, size: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images with columns (0) or rows (1) in stripes: colour says nothing."""
    draws = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    wave = 60 * np.sin(np.arange(size) * 1.6)
    images = np.stack(
        [np.broadcast_to(wave if k == 0 else wave[:, None], (size, size)) for k in labels]
    )[..., None]
    noisy = 128 + images + draws.normal(0, 20, (count, size, size, 3))
    return noisy.clip(0, 255).astype(np.uint8), labels


def fit(steps=25, seed=1, **changes):
    images, labels = stripes(24)
    options = {"steps": steps, "batch_size": 16, "seed": seed, "hardware": HARDWARE, **changes}
    return students.train_student(images, labels, 2, **options)


@pytest.fixture(scope="module")
def trained():
    return fit()


def test_a_student_learns_what_generalises(trained):
    images, labels = stripes(60, seed=9)
    assert students.accuracy(trained, images, labels, hardware=HARDWARE) > 0.95


def test_probabilities_belong_to_the_images(trained):
    images, _ = stripes(30, seed=9)
    whole = students.predict_proba(trained, images, hardware=HARDWARE)
    parts = students.predict_proba(trained, images, hardware=HARDWARE, batch_size=7)
    assert whole.shape == (30, 2)
    np.testing.assert_allclose(whole.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(whole, parts, atol=1e-5)
    assert (students.predict(trained, images, hardware=HARDWARE) == whole.argmax(1)).all()


def test_features_are_what_the_last_layer_sees(trained):
    images, _ = stripes(6, seed=9)
    found = students.features(trained, images, hardware=HARDWARE)
    assert found.shape == (6, 128)
    logits = trained.head(torch.from_numpy(found))
    expected = students.predict_proba(trained, images, hardware=HARDWARE)
    np.testing.assert_allclose(logits.softmax(1).detach().numpy(), expected, atol=1e-5)


def test_the_seed_alone_determines_a_student():
    torch.manual_seed(123)
    state = torch.get_rng_state()
    first = fit(steps=3)
    assert torch.equal(torch.get_rng_state(), state), "the global random state was touched"
    torch.manual_seed(456)
    again, other = fit(steps=3), fit(steps=3, seed=2)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
    )
    assert not torch.equal(first.head.weight, other.head.weight)


def test_a_set_smaller_than_the_batch_still_trains_the_same_number_of_steps():
    images, labels = stripes(2)
    seen = []
    students.train_student(
        images,
        labels,
        2,
        steps=5,
        batch_size=8,
        seed=0,
        hardware=HARDWARE,
        on_step=lambda step, loss: seen.append(step),
    )
    assert seen == [1, 2, 3, 4, 5]


def test_a_stop_request_comes_through():
    def stop(step, loss):
        raise JobStopped("stop")

    with pytest.raises(JobStopped):
        fit(on_step=stop)


def test_augmentation_crops_and_mirrors_each_image_its_own_way():
    ramp = torch.linspace(0, 1, 32).expand(64, 3, 32, 32)
    made = students.augmented(ramp, torch.Generator().manual_seed(0))
    assert made.shape == ramp.shape
    rising = (made[:, 0, 16, -1] > made[:, 0, 16, 0]).float().mean()
    assert 0.3 < rising < 0.7, "about half are mirrored"
    widths = (made[:, 0, 16, -1] - made[:, 0, 16, 0]).abs()
    assert widths.min() > 0.65, "a crop keeps at least sqrt(0.67 * 3/4) of a side"
    assert widths.max() <= 1
    assert widths.std() > 0.02
    assert made.min() >= 0
    assert made.max() <= 1
    torch.testing.assert_close(made, made[:, :, :1].expand_as(made), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("student", "width"), [("convnet", 128), ("vgg", 128), ("mixer", 96)])
def test_small_students_learn_what_tells_classes_apart(student, width):
    model = fit(steps=40, student=student)
    images, labels = stripes(16)
    found = students.predict(model, images, hardware=HARDWARE)
    assert (found == labels).mean() > 0.9
    assert students.features(model, images, hardware=HARDWARE).shape == (len(images), width)


def test_resnet18_is_built_offline_and_trains():
    model = fit(steps=1, student="resnet18")
    count = sum(p.numel() for p in model.parameters())
    assert 11_000_000 < count < 11_400_000
    found = students.features(model, stripes(2)[0], hardware=HARDWARE)
    assert found.shape == (2, 512)


def test_a_folder_of_a_pretrained_model_keeps_its_weights(tmp_path):
    from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor

    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=5
    )
    source = ResNetForImageClassification(config)
    source.save_pretrained(tmp_path)
    ViTImageProcessor(image_mean=[0.4] * 3, image_std=[0.2] * 3).save_pretrained(tmp_path)
    model = students.build_student(str(tmp_path), 2)
    assert model.head.out_features == 2
    assert model.pretrained
    assert model.mean.flatten().tolist() == pytest.approx([0.4] * 3)
    ours = dict(model.network.named_parameters())
    for name, weight in source.named_parameters():
        if not name.startswith("classifier"):
            assert torch.equal(ours[name], weight)
    before = students.student_identity(str(tmp_path))
    (tmp_path / "config.json").write_text((tmp_path / "config.json").read_text() + "\n")
    assert students.student_identity(str(tmp_path)) != before


def test_an_unknown_student_is_refused(tmp_path):
    with pytest.raises(ModelError, match="convnet"):
        students.build_student(str(tmp_path), 2)


def test_pickled_weights_are_refused(tmp_path):
    from transformers import ResNetConfig, ViTImageProcessor

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], num_labels=2)
    config.architectures = ["ResNetForImageClassification"]
    config.save_pretrained(tmp_path)
    ViTImageProcessor().save_pretrained(tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        students.build_student(str(tmp_path), 2)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"images": np.zeros((0, 16, 16, 3), np.uint8)}, DatasetError),
        ({"images": np.zeros((4, 16, 16, 3), np.float32)}, DatasetError),
        ({"labels": np.array([0, 1, 2, 0])}, DatasetError),
        ({"labels": np.array([0, 1])}, DatasetError),
        ({"n_classes": 1, "labels": np.zeros(4, int)}, DatasetError),
        ({"steps": 0}, ConfigError),
    ],
)
def test_what_does_not_fit_is_refused(change, error):
    images, labels = stripes(4)
    given = {
        "images": images,
        "labels": labels,
        "n_classes": 2,
        "steps": 1,
        "batch_size": 2,
        "seed": 0,
        "hardware": HARDWARE,
        **change,
    }
    with pytest.raises(error):
        students.train_student(**given)


def test_accuracy_of_nothing_is_refused(trained):
    with pytest.raises(DatasetError):
        students.accuracy(
            trained, np.zeros((0, 16, 16, 3), np.uint8), np.array([]), hardware=HARDWARE
        )
