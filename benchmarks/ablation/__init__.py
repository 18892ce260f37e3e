"""What each choice of the recipe is worth: see `benchmarks.ablation.__main__`."""
