"""General helpers: files, compiled functions, cores, clocks."""
