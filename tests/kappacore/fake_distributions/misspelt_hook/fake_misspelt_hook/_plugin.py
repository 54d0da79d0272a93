from kappacore.plugins.hookspecs import hookimpl
from kappacore.plugins.specs import CacheBackendSpec, SourceSpec, WrapperSpec


@hookimpl
def kappacore_wrappers():
    return [WrapperSpec(name="misspelt-neighbour", target="fake_misspelt_hook.x:X", api=1)]


@hookimpl
def kappacore_cache_backend():
    return []
