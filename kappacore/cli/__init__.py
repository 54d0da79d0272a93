"""The command ``kappacore``."""
