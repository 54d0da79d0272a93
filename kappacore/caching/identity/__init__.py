"""Whose samples a namespace holds."""
