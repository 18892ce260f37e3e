"""Universal representations on colour pictures; see ``__main__``."""
