"""Networks of the codec: float transforms, and entropy networks that compute with integers."""
