"""Measures of what people see, from packages that need torch."""
