"""What all tabs are built with: context, forms, safe templates, and the patches of Gradio."""
