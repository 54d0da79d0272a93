import kappacore
from kappacore.hookspecs import hookimpl


@hookimpl
def kappacore_wrappers():
    kappacore.backend("memory")
    return []
