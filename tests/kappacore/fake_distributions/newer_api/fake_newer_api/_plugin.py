from kappacore.plugins.hookspecs import hookimpl
from kappacore.plugins.specs import CacheBackendSpec, SourceSpec, WrapperSpec


@hookimpl
def kappacore_cache_backends():
    yield CacheBackendSpec(name="tomorrow", target="fake_newer_api.x:X", scope="machine", api=99)
