"""Kernels against the reference: in numba's simulator, or on a GPU; the same tests either way.

Without a GPU they are skipped here and run by ``tests/runtime/test_cuda_simulated.py``, which sets
``NUMBA_ENABLE_CUDASIM=1``.
"""

import importlib.util
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the tests' `inputs`
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
ANYWHERE = "test_triples.py"  # reads names and signatures only
HAVE_NUMBA_CUDA = importlib.util.find_spec("numba_cuda") is not None


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        path = Path(item.path)
        if here in path.parents and path.name != ANYWHERE and not SIMULATED:
            item.add_marker(pytest.mark.gpu)


def run_block(self, grid_point, *args):
    """Run one block with a barrier, where numba polls its threads: ten times as fast.

    A thread that leaves while others wait at a barrier breaks it: such a kernel is wrong on a GPU.
    """
    from numba.cuda.simulator.kernel import BlockThread

    points = list(np.ndindex(*self._block_dim))
    barrier = threading.Barrier(len(points), timeout=60)

    class Thread(BlockThread):
        def syncthreads(self):
            barrier.wait()

    def body():
        try:
            self._f(*args)
        except BaseException:
            barrier.abort()
            raise

    threads = [Thread(body, self, grid_point, point, False) for point in points]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failures = [thread.exception for thread in threads if thread.exception]
    failures.sort(key=lambda failure: issubclass(failure[0], threading.BrokenBarrierError))
    if failures:
        raise failures[0][0].with_traceback(failures[0][1])


if SIMULATED and HAVE_NUMBA_CUDA:
    # With NumPy 2.5 numba's CUDA warns while it is imported, which is an error elsewhere.
    import trellic.gpu.toolkit  # noqa: F401
    from numba.cuda.simulator import kernel as simulator  # isort: skip

    simulator.BlockManager.run = run_block


@pytest.fixture(scope="session")
def larger():
    """How many times as large inputs may be on a GPU as in the simulator."""
    return 1 if SIMULATED else 50
