"""From a training checkpoint to a bundle that the runtime deploys."""
