"""Photos to train on, quantized crops, and files that come from outside."""
