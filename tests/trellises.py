"""What tests of the search on CPU and GPU know of a trellis."""

import numpy as np

from trellic.quantize.trellis import next_state


def predecessors(states: int) -> tuple[np.ndarray, np.ndarray]:
    """The two ways into each state, lower predecessor first: states and parities, (2, states)."""
    ways = [np.argwhere(next_state(states) == s) for s in range(states)]  # sorted by source
    state, parity = np.array(ways).transpose(2, 1, 0)
    return state, parity
