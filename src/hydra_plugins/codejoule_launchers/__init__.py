"""Hydra finds this package by its place under ``hydra_plugins``."""
