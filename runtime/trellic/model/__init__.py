"""A model: its bundle on disk, channels, tables over quality, decoders and their choice."""
