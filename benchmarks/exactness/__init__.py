"""Do all engines compute the same integers? Bundles, inputs and a count of what differs."""
