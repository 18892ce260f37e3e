"""Training of Trellic's codecs: models, data, and the end-to-end stage."""
