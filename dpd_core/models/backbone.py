"""One text-to-image latent diffusion model behind one small interface.

Whatever differs between Stable Diffusion 1.x and 2.x, Text2Earth and the bundled tiny model
(noise or velocity prediction, class labels, sizes, scaling factor, device and number format)
is settled here. Symbols follow the papers: z_t noisy latent, ᾱ_t cumulative product of the
noise schedule, ẑ₀ predicted clean latent.

The VAE and the text encoder compute in float32, because their share of the work is small
and rounding shows in the pictures; the UNet computes in the hardware's number format.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpd_core import storage
from dpd_core.config import ProjectConfig
from dpd_core.errors import ModelError, first_line
from dpd_core.hardware import Hardware, choose_hardware
from dpd_core.models import weights as adapter_weights
from dpd_core.models.files import native_side, parts_digest, resolve_model, variant
from dpd_core.models.tokens import PromptTokenizer
from dpd_core.project import Project


@dataclass(frozen=True)
class Posterior:
    """What the VAE says of images: a diagonal normal distribution, scaled for the UNet.

    Attributes:
        mean: (B, C, h, w), multiplied by the scaling factor.
        std: (B, C, h, w), likewise.
    """

    mean: Tensor
    std: Tensor

    def rows(self, picked: Tensor) -> Posterior:
        """The posteriors of some of the images, by their places (an integer tensor)."""
        return Posterior(self.mean[picked], self.std[picked])

    def sample(self, noise: Tensor) -> Tensor:
        """Draw from the posterior with standard normal ``noise`` of the same shape."""
        return self.mean + self.std * noise


@dataclass(frozen=True)
class Prompts:
    """Encoded texts, each as long as it needs.

    Attributes:
        embeddings: One tensor (chunks · window, D) a text.
        empty: The encoded empty text, (window, D): the padding of shorter texts in a batch and
            the unconditional side of classifier-free guidance.
    """

    embeddings: list[Tensor]
    empty: Tensor

    def batch(self, rows: list[int]) -> Tensor:
        """(len(rows), longest, D): the texts of these rows, padded by empty windows."""
        longest = max(self.embeddings[row].shape[0] for row in rows)
        return torch.stack([self._pad(self.embeddings[row], longest) for row in rows])

    def unconditional(self, like: Tensor) -> Tensor:
        """The empty text in the shape of a batch made by :meth:`batch`."""
        return self._pad(self.empty, like.shape[1]).expand_as(like)

    def _pad(self, embedding: Tensor, length: int) -> Tensor:
        missing = (length - embedding.shape[0]) // self.empty.shape[0]
        return torch.cat([embedding, *[self.empty] * missing])


class Backbone:
    """A loaded model. Make it with :func:`load_backbone` or :meth:`load`."""

    def __init__(
        self,
        *,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        unet: Any,
        schedule: dict[str, Any],
        hardware: Hardware,
        image_size: int,
        folder: Path,
    ):
        from diffusers import DDPMScheduler

        self.vae, self.text_encoder, self.tokenizer, self.unet = vae, text_encoder, tokenizer, unet
        self.hardware, self.folder = hardware, folder
        self.schedule = schedule
        # Kept here because a distributed wrapper around the UNet hides its attributes.
        self._wants_class_labels = getattr(unet, "class_embedding", None) is not None
        training = DDPMScheduler.from_config(schedule)
        self.prediction_type: str = training.config.prediction_type
        self.alphas_cumprod: Tensor = training.alphas_cumprod.to(hardware.device)
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.image_size = image_size or native_side(unet.config, vae.config, folder)
        side = self.image_size // factor
        if self.image_size % (factor * 2 ** (len(unet.config.block_out_channels) - 1)):
            raise ModelError(
                f"images of {self.image_size} px do not fit this model.",
                where=folder,
                fix="Use an image size that is a multiple of "
                f"{factor * 2 ** (len(unet.config.block_out_channels) - 1)}.",
            )
        self.latent_shape = (vae.config.latent_channels, side, side)

    @classmethod
    def load(
        cls,
        source: str = "bundled",
        *,
        hardware: Hardware,
        image_size: int = 0,
        adapter: Path | None = None,
    ) -> Backbone:
        """Load a model in the diffusers folder format.

        Args:
            source: ``"bundled"``, a local folder or a Hub id.
            hardware: Device and number format.
            image_size: Side of the images in pixels; 0 takes the model's own.
            adapter: Folder or file of what was trained (:mod:`dpd_core.models.weights`), merged
                into the UNet before it is cast.

        Raises:
            ModelError: the model or adapter is missing, incomplete, or does not fit.
        """
        from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
        from safetensors import SafetensorError
        from transformers import CLIPTextModel, CLIPTokenizer

        folder = resolve_model(source)
        try:
            vae, unet, text_encoder = (
                kind.from_pretrained(
                    folder,
                    subfolder=name,
                    torch_dtype=torch.float32,
                    use_safetensors=True,
                    variant=variant(folder, name),
                )
                for name, kind in (
                    ("vae", AutoencoderKL),
                    ("unet", UNet2DConditionModel),
                    ("text_encoder", CLIPTextModel),
                )
            )
            tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
            schedule = dict(DDPMScheduler.load_config(folder, subfolder="scheduler"))
        except (
            OSError,
            ValueError,
            LookupError,
            RuntimeError,
            TypeError,
            AttributeError,
            ArithmeticError,
            AssertionError,
            SafetensorError,
        ) as error:
            raise ModelError(
                f"not a usable Stable-Diffusion-like model ({first_line(error)}).",
                where=source,
                fix="It needs vae, text_encoder, tokenizer, unet and scheduler folders with "
                "safetensors weights.",
            ) from error
        if adapter is not None:
            adapter_weights.merge(unet, adapter)
        for part in (vae, unet, text_encoder):
            part.requires_grad_(False).eval()
        vae.to(hardware.device)
        text_encoder.to(hardware.device)
        # diffusers' own `to` warns at every change of number format.
        torch.nn.Module.to(unet, hardware.device, hardware.dtype)
        return cls(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            schedule=schedule,
            hardware=hardware,
            image_size=image_size,
            folder=folder,
        )

    @property
    def device(self) -> torch.device:
        """Where the tensors go in and come out."""
        return self.hardware.device

    @property
    def fingerprint(self) -> str:
        """Identity of the latents this model makes: VAE weights and image size."""
        return _latent_fingerprint(self.folder, self.image_size)

    @torch.no_grad()
    def encode_images(self, pixels: Any) -> Posterior:
        """Encode images.

        Args:
            pixels: uint8 (B, H, W, 3), array or tensor, H = W = :attr:`image_size`.

        Returns:
            The posterior, each part float32 (B, C, h, w).
        """
        images = self.normalised(pixels)
        distribution = self.vae.encode(images).latent_dist
        scale = self.vae.config.scaling_factor
        return Posterior(distribution.mean * scale, distribution.std * scale)

    def normalised(self, pixels: Any) -> Tensor:
        """Images as the VAE takes and gives them: uint8 (B, H, W, 3) → (B, 3, H, W) in [-1, 1]."""
        images = torch.as_tensor(pixels).to(self.device)
        return images.permute(0, 3, 1, 2).float() / 127.5 - 1

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decode latents (B, C, h, w) to uint8 images (B, H, W, 3)."""
        latents = latents.to(self.device, torch.float32) / self.vae.config.scaling_factor
        images = self.vae.decode(latents).sample
        images = ((images + 1) * 127.5).round().clamp(0, 255)
        return images.to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    def token_chunks(self, text: str) -> list[list[int]]:
        """The text's token ids, in as many windows as it takes (at least one).

        A text longer than the encoder's window is not cut: each window is encoded by itself
        and the UNet attends to all of them.
        """
        return PromptTokenizer(self.tokenizer, self._window).chunks(text)

    @torch.no_grad()
    def encode_prompts(self, texts: list[str]) -> Prompts:
        """Encode texts of any length; see :class:`Prompts`."""
        chunks = [self.token_chunks(text) for text in texts]
        flat: list[list[int]] = [[]] + [chunk for text in chunks for chunk in text]
        encoded = torch.cat(
            [self._encode_windows(flat[start : start + 64]) for start in range(0, len(flat), 64)]
        )
        empty, rest = encoded[0], list(encoded[1:])
        embeddings = [torch.cat([rest.pop(0) for _ in text]) for text in chunks]
        return Prompts(embeddings, empty)

    @torch.no_grad()
    def text_vectors(self, texts: list[str]) -> Tensor:
        """One vector of length 1 for each text, float32 (N, D): the text encoder's own summary
        (CLIP's pooled output); of a text longer than its window, the mean over the windows."""
        vectors = []
        for text in texts:
            pooled = self.text_encoder(self._token_rows(self.token_chunks(text))).pooler_output
            vectors.append(pooled.float().mean(0))
        return torch.nn.functional.normalize(torch.stack(vectors), dim=1).cpu()

    def predict(self, noisy: Tensor, timesteps: Tensor, embeddings: Tensor) -> Tensor:
        """The UNet's output (noise, velocity or clean latent) in float32.

        Args:
            noisy: z_t, (B, C, h, w).
            timesteps: integers, (B,) or ().
            embeddings: (B, L, D), see :meth:`Prompts.batch`.
        """
        dtype = self.hardware.dtype
        output = self.unet(
            noisy.to(dtype),
            timesteps,
            encoder_hidden_states=embeddings.to(dtype),
            class_labels=self._class_labels(noisy.shape[0]),
        ).sample
        return output.float()

    def predict_clean(self, output: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """ẑ₀ from the UNet's output, for ε, v and x₀ parametrisations; (B, C, h, w)."""
        signal, noise = self.signal_and_noise(timesteps)
        if self.prediction_type == "epsilon":
            # ᾱ_T may be 0 (zero terminal SNR), where noise says nothing of the clean latent.
            return (noisy - noise * output) / signal.clamp(min=1e-4)
        if self.prediction_type == "v_prediction":
            return signal * noisy - noise * output
        return output

    def target(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the UNet should have said for ``clean`` and ``noise``; (B, C, h, w)."""
        signal, sigma = self.signal_and_noise(timesteps)
        if self.prediction_type == "epsilon":
            return noise
        if self.prediction_type == "v_prediction":
            return signal * noise - sigma * clean
        return clean

    def add_noise(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """z_t = √ᾱ_t · z₀ + √(1−ᾱ_t) · ε."""
        signal, sigma = self.signal_and_noise(timesteps)
        return signal * clean + sigma * noise

    def signal_and_noise(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """√ᾱ_t and √(1−ᾱ_t), each (B, 1, 1, 1)."""
        alphas = self.alphas_cumprod[timesteps.long()].view(-1, 1, 1, 1)
        return alphas.sqrt(), (1 - alphas).sqrt()

    def scheduler(self, name: str, steps: int) -> Any:
        """A stock diffusers solver for this model's noise schedule, with timesteps set.

        All of them keep z_t in the variance-preserving form in which guidance is written.

        Args:
            name: ``"ddim"``, ``"dpm++"`` or ``"unipc"``.
            steps: Number of sampling steps.
        """
        import diffusers

        kinds: dict[str, tuple[Any, dict[str, Any]]] = {
            "ddim": (diffusers.DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": True}),
            "dpm++": (
                diffusers.DPMSolverMultistepScheduler,
                {"algorithm_type": "dpmsolver++", "solver_order": 2},
            ),
            "unipc": (diffusers.UniPCMultistepScheduler, {}),
        }
        kind, options = kinds[name]
        # Trailing steps begin at the pure noise that sampling starts from; the default of SD 1.x
        # begins short of it (Lin et al., 2024).
        solver = kind.from_config(self.schedule, timestep_spacing="trailing", **options)
        solver.set_timesteps(steps, device=self.device)
        return solver

    @property
    def _window(self) -> int:
        return self.text_encoder.config.max_position_embeddings

    def _encode_windows(self, chunks: list[list[int]]) -> Tensor:
        return self.text_encoder(self._token_rows(chunks))[0].float()

    def _token_rows(self, chunks: list[list[int]]) -> Tensor:
        tokenizer = self.tokenizer
        rows = []
        for chunk in chunks:
            row = [tokenizer.bos_token_id, *chunk, tokenizer.eos_token_id]
            rows.append(row + [tokenizer.pad_token_id] * (self._window - len(row)))
        return torch.tensor(rows, device=self.device)

    def _class_labels(self, batch: int) -> Tensor | None:
        # Text2Earth's UNet wants a class label; its published use passes 0.
        if not self._wants_class_labels:
            return None
        return torch.zeros(batch, dtype=torch.long, device=self.device)


def load_backbone(
    project: Project, *, adapter: Path | None = None, decoder: bool = False
) -> Backbone:
    """The model a project's settings ask for, on the hardware they ask for.

    Args:
        project: The project.
        adapter: Folder of an adapter, merged into the UNet.
        decoder: Whether the VAE's decoder is the adapter's too.
    """
    config = project.config
    backbone = Backbone.load(
        config.model,
        hardware=choose_hardware(config),
        image_size=config.image_size,
        adapter=adapter,
    )
    if decoder and adapter is not None:
        adapter_weights.load_decoder(backbone.vae, adapter / adapter_weights.DECODER)
    return backbone


def backbone_identity(config: ProjectConfig) -> str:
    """:attr:`Backbone.fingerprint` of the model in the settings, without loading weights.

    Raises:
        ModelError: the model is not there.
    """
    return _latent_fingerprint(resolve_model(config.model), image_side(config))


def image_side(config: ProjectConfig) -> int:
    """:attr:`Backbone.image_size` of the model in the settings, without loading weights.

    Raises:
        ModelError: the model is not there.
    """
    if config.image_size:
        return config.image_size
    folder = resolve_model(config.model)
    fix = "The model folder is incomplete."
    vae = storage.read_json(folder / "vae" / "config.json", fix=fix)
    unet = storage.read_json(folder / "unet" / "config.json", fix=fix)
    return native_side(unet, vae, folder)


def model_identity(config: ProjectConfig) -> str:
    """Identity of all weights of the model in the settings, for provenance and adapters."""
    return parts_digest(resolve_model(config.model))


def _latent_fingerprint(folder: Path, image_size: int) -> str:
    return storage.digest(parts_digest(folder, ("vae",)), image_size)
