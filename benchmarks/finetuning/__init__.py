"""Fine-tuning on quantized latents against its controls: arms, evaluation, report."""
