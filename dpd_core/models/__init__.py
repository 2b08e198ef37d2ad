"""Text-to-image models behind one small interface: loading, latents, sampling and guidance."""
