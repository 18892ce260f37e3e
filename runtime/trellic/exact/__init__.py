"""The integer side of a model: networks and quality tables that decide every symbol."""
