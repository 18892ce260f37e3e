"""From a training checkpoint to a bundle that the runtime deploys."""

import trellic  # noqa: F401  # before anything here loads onnxruntime: see trellic.support.quiet
