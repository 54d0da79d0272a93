from kappacore.plugin_api import CacheBackendSpec, SourceSpec, WrapperSpec, hookimpl


@hookimpl
def kappacore_wrappers():
    return [WrapperSpec(name="misspelt-neighbour", target="fake_misspelt_hook.x:X", api=1)]


@hookimpl
def kappacore_cache_backend():
    return []
