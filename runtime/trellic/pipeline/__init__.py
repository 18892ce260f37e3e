"""One picture: encoder, decoder, transforms in tiles, memory, rate control, regions."""
