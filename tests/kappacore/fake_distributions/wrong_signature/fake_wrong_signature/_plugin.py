from kappacore.plugins.hookspecs import hookimpl
from kappacore.plugins.specs import CacheBackendSpec, SourceSpec, WrapperSpec


@hookimpl
def kappacore_wrappers(config):
    return []
