from kappacore.plugin_api import CacheBackendSpec, SourceSpec, WrapperSpec, hookimpl


@hookimpl
def kappacore_wrappers(config):
    return []
