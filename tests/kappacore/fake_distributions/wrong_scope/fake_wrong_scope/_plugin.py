from kappacore.plugin_api import CacheBackendSpec, SourceSpec, WrapperSpec, hookimpl


@hookimpl
def kappacore_cache_backends():
    yield CacheBackendSpec(name="liar", target="fake_wrong_scope.x:X", scope="network", api=1)
