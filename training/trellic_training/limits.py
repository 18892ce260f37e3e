"""Largest values that training takes; imports nothing, for the command line."""

from __future__ import annotations

MAX_SEED = 2**32 - 1  # of NumPy and Lightning
MAX_THREADS = 1024  # torch crashes where the system cannot start so many
MAX_MINUTES = 525_600  # a year
