"""One day with a GPU, perhaps the only one: all that is to be done there, in order, nothing lost.

docs/gpu-day.md says how to use it. `plan` lists the calls and their commands, `__main__` runs them,
`pack` and `strip` make what travels to a machine that can fetch nothing.
"""
