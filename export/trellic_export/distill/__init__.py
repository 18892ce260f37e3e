"""Slim models for one application: a small encoder and a small decoder of the same streams.

They are distilled from a bundle's own, on pictures of that application. Integer networks, tables
and the stream id stay, so every decoder of the model reads the files (Liu et al. 2022 slim a codec
for one game in this way).
"""
