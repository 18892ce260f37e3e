"""Optimizers by name, and SOAP."""
