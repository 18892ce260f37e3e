"""Small helpers that know nothing of pictures: files, compiled functions, cores, clocks."""
