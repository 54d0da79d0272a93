def kappacore_wrappers():
    """Lacks the mark hookimpl."""
    return []
