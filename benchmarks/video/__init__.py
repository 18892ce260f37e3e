"""An experiment: clips as key pictures and an interpolation loop, all coded by Trellic."""
