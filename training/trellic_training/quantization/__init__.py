"""The runtime's quantizers in training, and tables fitted to what they emit."""
