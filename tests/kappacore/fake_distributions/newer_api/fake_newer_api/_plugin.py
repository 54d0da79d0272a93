from kappacore.plugin_api import CacheBackendSpec, SourceSpec, WrapperSpec, hookimpl


@hookimpl
def kappacore_cache_backends():
    yield CacheBackendSpec(name="tomorrow", target="fake_newer_api.x:X", scope="machine", api=99)
