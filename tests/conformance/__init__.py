"""Streams that every decoder of the format must decode, or refuse, for ever; see README.md."""
