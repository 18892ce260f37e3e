"""Recipes: YAML files, and the settings that they are checked against."""
