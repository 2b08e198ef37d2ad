"""From what the page asks to what the core does: typed functions without Gradio."""
