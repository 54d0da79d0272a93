import kappacore
from kappacore.plugins.hookspecs import hookimpl


@hookimpl
def kappacore_wrappers():
    kappacore.backend("memory")
    return []
