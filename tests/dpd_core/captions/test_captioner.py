"""Captioners of every supported family, with tiny random weights."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from dpd_core.captions import captioner
from dpd_core.captions.captioner import captioner_fingerprint, load_captioner
from dpd_core.captions.models import FAMILIES, load_model
from dpd_core.errors import ModelError
from dpd_core.hardware import Hardware
from tests.support.captioners import TILE, save_blip, save_qwen, save_smolvlm

CPU = Hardware(torch.device("cpu"), torch.float32, "for tests")
MAKERS = {
    "blip": save_blip,
    "smolvlm": save_smolvlm,
    "qwen2_vl": save_qwen,
    "qwen2_5_vl": lambda folder: save_qwen(folder, version="2.5"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("captioners")
    return {kind: make(root / kind) for kind, make in MAKERS.items()}


@pytest.fixture(scope="module")
def captioners(folders):
    return {kind: load_captioner(str(folder), CPU) for kind, folder in folders.items()}


def noise(size, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def plain(color, size=40):
    return Image.new("RGB", (size, size), color)


IMAGES = [noise(32), plain("red"), noise(100, 1), plain("navy")]


@pytest.mark.parametrize("kind", MAKERS)
def test_the_company_of_an_image_does_not_change_its_caption(captioners, kind):
    model = captioners[kind]
    together = model.caption(IMAGES, 3)
    assert together == [model.caption([image], 3)[0] for image in IMAGES]
    assert together == model.caption(IMAGES[::-1], 3)[::-1]
    assert len(set(together)) > 1, "the words must depend on the image"


@pytest.mark.parametrize("kind", MAKERS)
def test_captions_are_short_and_tidy(captioners, kind):
    for limit in (3, 10):
        for text in captioners[kind].caption(IMAGES[:1], limit):
            assert len(text.split()) <= limit
            assert text == " ".join(text.split())
            assert "<" not in text and "[SEP]" not in text


@pytest.mark.parametrize("kind", ["smolvlm", "qwen2_5_vl"])
def test_chat_models_compute_in_half_precision(folders, kind):
    half = Hardware(torch.device("cpu"), torch.bfloat16, "for tests")
    model = load_captioner(str(folders[kind]), half)
    assert model._model.model.dtype == torch.bfloat16
    assert len(model.caption(IMAGES[:2], 3)) == 2


@pytest.mark.parametrize("max_words", [3, 300])
def test_blip_goes_on_from_the_class_it_is_told(captioners, max_words):
    model = captioners["blip"]
    names = ["harbor", "forest", "", "harbor"]
    texts = model.caption(IMAGES, max_words, names)
    # Two images share an opening; 300 words are far more than the decoder has positions.
    assert texts == [
        model.caption([image], max_words, [name])[0]
        for image, name in zip(IMAGES, names, strict=True)
    ]
    assert texts[0].startswith("a satellite image of harbor ")
    assert texts[1].startswith("a satellite image of forest ")
    assert max(len(text.split()) for text in texts) <= max_words + 5
    assert texts[2] == model.caption(IMAGES[2:3], max_words)[0]


@pytest.mark.parametrize("name", ["unheard", "harbor " * 40])
def test_blip_begins_by_itself_where_the_class_is_no_help(captioners, name):
    model = captioners["blip"]
    assert model.caption(IMAGES[:1], 9, [name]) == model.caption(IMAGES[:1], 9)


def test_chat_models_are_told_the_class_in_the_question(folders):
    asked = []
    model = load_captioner(str(folders["qwen2_vl"]), CPU)
    prepare = model._model.prepare

    def listen(images, question, opening=""):
        asked.append(question)
        return prepare(images, question, opening)

    model._model.prepare = listen
    model.caption(IMAGES[:2], 3, ["golf <|image_pad|> course", ""])
    assert asked[0].startswith("Describe this satellite image, which shows golf")
    assert "<|" not in asked[0] and "at most 3 words" in asked[0]
    assert asked[1].startswith("Describe this satellite image in one sentence")
    model.caption_together([IMAGES[:3], IMAGES[1:]], 3, ["golf course", ""])
    assert asked[2].startswith("These 3 satellite images, which show golf course, belong together")
    assert "have in common" in asked[3] and asked[3].startswith("These 3 satellite images belong")


@pytest.mark.parametrize("kind", ["smolvlm", "qwen2_vl", "qwen2_5_vl"])
def test_chat_models_see_a_group_together(captioners, kind):
    model = captioners[kind]
    groups = [IMAGES[:3], IMAGES[1:], [IMAGES[0], IMAGES[2], IMAGES[2]]]
    found = model.caption_together(groups, 8, [""] * 3)
    assert found == [model.caption_together([group], 8, [""])[0] for group in groups]
    assert len(set(found)) == 3, "each image has a part in it"
    assert all(len(text.split()) <= 8 for text in found)


def test_a_model_that_sees_one_image_at_a_time_says_so(captioners):
    with pytest.raises(ModelError, match="one image at a time") as error:
        captioners["blip"].caption_together([IMAGES[:2]], 8, [""])
    assert "Qwen-VL" in error.value.fix and "aggregated" in error.value.fix


def test_smolvlm_inputs_of_a_group_are_those_of_the_joint_processor(folders):
    from transformers.models.idefics3.image_processing_pil_idefics3 import (
        Idefics3ImageProcessorPil,
    )
    from transformers.models.idefics3.processing_idefics3 import Idefics3Processor

    model = load_model(folders["smolvlm"], folders["smolvlm"], "smolvlm", CPU)
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 2 * TILE}, max_image_size={"longest_edge": TILE}
    )
    joint = Idefics3Processor(images, model.tokenizer, image_seq_len=4)
    group = [noise(200), noise(20), plain("red", 90)]
    options = {"do_image_splitting": False, "size": {"longest_edge": TILE}}
    prompt = model.prompt("What is it?", 3)
    wanted = joint(text=[prompt], images=[group], return_tensors="pt", **options)
    found = model.prepare(group, "What is it?")
    assert found["input_ids"].tolist() == wanted["input_ids"].tolist()
    assert torch.equal(found["pixel_values"], wanted["pixel_values"])


def test_qwen_shares_its_room_among_a_group(folders):
    model = load_model(folders["qwen2_vl"], folders["qwen2_vl"], "qwen2_vl", CPU)
    inputs = model.prepare([plain("red", 2000), plain("navy", 16), noise(2000)], "What is it?")
    at_image = inputs["input_ids"] == model.model.config.image_token_id
    counts = (inputs["image_grid_thw"].prod(1) // 4).tolist()
    assert len(counts) == 3 and int(at_image.sum()) == sum(counts) <= model.most
    assert counts[1] == model.fewest < counts[0]


def test_no_images_give_no_captions(captioners):
    assert captioners["blip"].caption([], 5) == []


def test_smolvlm_inputs_are_those_of_the_joint_processor(folders):
    # Idefics3's joint processor needs no torchvision; SmolVLM's text and tiles are the same.
    from transformers.models.idefics3.image_processing_pil_idefics3 import (
        Idefics3ImageProcessorPil,
    )
    from transformers.models.idefics3.processing_idefics3 import Idefics3Processor

    model = load_model(folders["smolvlm"], folders["smolvlm"], "smolvlm", CPU)
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 2 * TILE}, max_image_size={"longest_edge": TILE}
    )
    joint = Idefics3Processor(images, model.tokenizer, image_seq_len=4)
    for image, split in (
        (noise(200), True),
        (noise(200).crop((0, 0, 200, 90)), True),
        (noise(20), False),
    ):
        options = {} if split else {"do_image_splitting": False, "size": {"longest_edge": TILE}}
        prompt = model.prompt("What is it?")
        wanted = joint(text=[prompt], images=[[image]], return_tensors="pt", **options)
        found = model.prepare([image], "What is it?")
        assert found["input_ids"].tolist() == wanted["input_ids"].tolist()
        assert torch.equal(found["pixel_values"], wanted["pixel_values"])
        assert torch.equal(found["pixel_attention_mask"], wanted["pixel_attention_mask"])
        assert found["pixel_values"].shape[1] == (
            1 if not split else found["pixel_values"].shape[1]
        )
        assert ("<row_1_col_1>" in model.tokenizer.decode(found["input_ids"][0])) is split


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl"])
def test_qwen_sees_small_images_enlarged_and_large_ones_reduced(folders, kind):
    model = load_model(folders[kind], folders[kind], kind, CPU)
    token = model.model.config.image_token_id
    for size, tokens in ((16, 64), (64, 64), (128, 256), (2000, 1024)):
        inputs = model.prepare([plain("red", size)], "What is it?")
        at_image = inputs["input_ids"] == token
        assert int(at_image.sum()) == tokens == int(inputs["image_grid_thw"].prod()) // 4
        assert torch.equal(inputs["mm_token_type_ids"], at_image.int())


def test_chat_models_are_asked_in_their_own_format(folders, tmp_path):
    folder = shutil.copytree(folders["smolvlm"], tmp_path / "own")
    model = load_model(folder, folder, "smolvlm", CPU)
    assert model.prompt("What?") == ("<|im_start|>User:<image>What?<end_of_utterance>\nAssistant:")
    template = (
        "Q:{% for part in messages[0]['content'] %}{{ part.get('text', '<image>') }}{% endfor %}"
    )
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    assert load_model(folder, folder, "smolvlm", CPU).prompt("What?") == "Q:<image>What?"
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "no image"}))
    assert load_model(folder, folder, "smolvlm", CPU).prompt("What?").startswith("<|im_start|>User")


def test_the_instruction_must_not_hold_the_image_token(folders):
    model = load_captioner(str(folders["qwen2_vl"]), CPU, instruction="What is <|image_pad|>?")
    with pytest.raises(ModelError, match=r"qwen2_vl.*<\|image_pad\|>"):
        model.caption(IMAGES[:1], 5)


def test_a_batch_too_large_for_the_memory_is_halved(captioners, monkeypatch):
    model = captioners["blip"]
    wanted = model.caption(IMAGES, 5)
    generate, sizes = model._model.generate, []

    def little_memory(inputs, max_words):
        sizes.append(len(inputs))
        if len(inputs) > 2:
            raise torch.OutOfMemoryError("too large")
        return generate(inputs, max_words)

    monkeypatch.setattr(model._model, "generate", little_memory)
    assert model.caption(IMAGES, 5) == wanted
    assert max(sizes) == len(IMAGES)
    monkeypatch.setattr(
        model._model, "generate", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("no"))
    )
    with pytest.raises(ModelError, match="memory"):
        model.caption(IMAGES, 5)


def test_the_fingerprint_follows_the_content(folders, captioners, tmp_path):
    copy = shutil.copytree(folders["blip"], tmp_path / "copy")
    known = captioner_fingerprint(str(copy))
    assert known == captioners["blip"].fingerprint
    assert known != captioner_fingerprint(str(copy), "Another question")
    assert known != captioner_fingerprint(str(save_blip(tmp_path / "other", seed=1)))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "note": 1}))
    assert captioner_fingerprint(str(copy)) != known


def test_the_bundled_captioner_is_the_one_in_assets(folders, monkeypatch, tmp_path):
    monkeypatch.setattr(captioner, "BUNDLED", folders["blip"])
    assert load_captioner("bundled", CPU).fingerprint == captioner_fingerprint(str(folders["blip"]))
    monkeypatch.setattr(captioner, "BUNDLED", tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"bundled captioner is missing.*template"):
        load_captioner("bundled", CPU)


@pytest.mark.parametrize(
    "source", ["./nowhere", "/nowhere/at/all", "~/no-such-folder", "nowhere", "a/b/c", ""]
)
def test_a_missing_folder_is_named(source):
    with pytest.raises(ModelError, match=r"no such folder|no config\.json"):
        load_captioner(source, CPU)


@pytest.mark.parametrize("source", ["owner/surely-not-there", "bad id/with space", "owner/.."])
def test_a_model_the_hub_does_not_give_is_named(source):
    with pytest.raises(ModelError, match=r"Hub did not give|no such|no config"):
        load_captioner(source, CPU)


def spoil_config(folder):
    (folder / "config.json").write_text("{")


def other_type(folder):
    (folder / "config.json").write_text('{"model_type": "gpt2"}')


def no_weights(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def cut_weights(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def lost_weights(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["vision_model.embeddings.class_embedding"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def no_tokenizer(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def no_image_processor(folder):
    (folder / "preprocessor_config.json").write_text("[]")


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (spoil_config, "config.json"),
        (other_type, f"'gpt2'.*{', '.join(FAMILIES)}"),
        (no_weights, "no safetensors weights"),
        (cut_weights, "not a usable captioner"),
        (lost_weights, "1 weights are missing"),
        (no_tokenizer, "not a usable captioner"),
        (no_image_processor, "not a usable captioner"),
    ],
)
def test_a_spoilt_model_is_refused(folders, tmp_path, spoil, match):
    folder = shutil.copytree(folders["blip"], tmp_path / "spoilt")
    spoil(folder)
    with pytest.raises(ModelError, match=match):
        load_captioner(str(folder), CPU)


def test_code_in_a_model_folder_is_never_run(folders, tmp_path):
    folder = shutil.copytree(folders["blip"], tmp_path / "code")
    config = json.loads((folder / "config.json").read_text())
    mark = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass Evil: pass\n")
    for kind in ("blip", "evil"):
        auto = dict.fromkeys(("AutoConfig", "AutoModelForImageTextToText"), "evil.Evil")
        (folder / "config.json").write_text(
            json.dumps({**config, "model_type": kind, "auto_map": auto})
        )
        if kind == "blip":
            assert load_captioner(str(folder), CPU).caption(IMAGES[:1], 3)
        else:
            with pytest.raises(ModelError):
                load_captioner(str(folder), CPU)
    assert not mark.exists()


def test_importing_the_captions_loads_no_heavy_library():
    code = "import dpd_core.captions, sys; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
