"""Integer networks: plain, compiled, and with the byte products of AVX-512 VNNI."""
