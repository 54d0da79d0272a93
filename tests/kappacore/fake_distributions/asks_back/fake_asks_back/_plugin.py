import kappacore
from kappacore.plugin_api import hookimpl


@hookimpl
def kappacore_wrappers():
    kappacore.backend("memory")
    return []
