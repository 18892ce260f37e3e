"""Trellises of the quantizer: Ungerboeck's rate-1/2 convolutional codes over two union quantizers.

A trellis path decides, latent by latent, which of two interleaved quantizers is in use, and the
parity of the chosen index decides where the path goes next::

    state s --+-- s & 1 = 0: quantizer Q0 (class 1) --+-- k even (x = 0) --> next_state[s, 0]
              +-- s & 1 = 1: quantizer Q1 (class 2) --+-- k odd  (x = 1) --> next_state[s, 1]

From one state only one quantizer can be used, so not every level can follow every other one.
Because of this restriction, an encoder's search gains more than rounding each latent by itself.

References
----------
G. Ungerboeck, "Channel coding with multilevel/phase signals", IEEE Trans. Inf. Theory 28 (1982),
table I (4 to 256 states); M. W. Marcellin and T. R. Fischer, "Trellis coded quantization of
memoryless and Gauss-Markov sources", IEEE Trans. Commun. 38 (1990).
"""

import functools
from typing import Final

import numpy as np
import numpy.typing as npt

from trellic.errors import BadParameter

CLASS_SCALAR: Final = 0  # uniform reconstruction quantizer, step 1
# 1: union quantizer Q0 with the levels 2 k D
CLASS_Q1: Final = 2  # union quantizer with the levels (2 k - sgn k) D

# states: (h0, h1), the parity-check polynomials; bit i is the coefficient of delay i.
PARITY_CHECKS: Final[dict[int, tuple[int, int]]] = {
    4: (0o5, 0o2),
    8: (0o13, 0o4),
    16: (0o23, 0o4),
    32: (0o45, 0o10),
    64: (0o103, 0o24),
    128: (0o235, 0o126),
    256: (0o515, 0o362),
}
STATES: Final = tuple(PARITY_CHECKS)


@functools.cache
def next_state(states: int) -> npt.NDArray[np.uint8]:
    """Return the transition table of a trellis.

    The encoder is in observer canonical form: with ``z0 = s & 1`` and input ``x``, bit ``i`` of
    the next state is ``s[i+1] ^ (h0[i+1] & z0) ^ (h1[i+1] & x)``, where ``s[v] = 0`` for
    ``2**v`` states.

    Parameters
    ----------
    states
        4, 8, 16, 32, 64, 128 or 256.

    Returns
    -------
    ndarray of uint8, shape (states, 2), read-only
        Entry ``[s, x]`` is the state after state ``s`` has emitted an index of parity ``x``.

    Raises
    ------
    BadParameter
        There is no trellis of that many states.

    Examples
    --------
    >>> next_state(4).tolist()
    [[0, 1], [2, 3], [1, 0], [3, 2]]
    """
    if states not in PARITY_CHECKS:
        raise BadParameter(f"a trellis of {states} states", expected=f"one of {STATES}")
    h0, h1 = PARITY_CHECKS[states]
    s, x = np.meshgrid(np.arange(states), np.arange(2), indexing="ij")
    table = ((s >> 1) ^ ((h0 >> 1) * (s & 1)) ^ ((h1 >> 1) * x)).astype(np.uint8)
    table.flags.writeable = False
    return table
