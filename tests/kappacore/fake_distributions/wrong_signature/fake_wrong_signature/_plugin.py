from kappacore.hookspecs import hookimpl
from kappacore.specs import CacheBackendSpec, SourceSpec, WrapperSpec


@hookimpl
def kappacore_wrappers(config):
    return []
