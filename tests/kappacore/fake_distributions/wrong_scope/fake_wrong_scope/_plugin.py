from kappacore.plugins.hookspecs import hookimpl
from kappacore.plugins.specs import CacheBackendSpec, SourceSpec, WrapperSpec


@hookimpl
def kappacore_cache_backends():
    yield CacheBackendSpec(name="liar", target="fake_wrong_scope.x:X", scope="network", api=1)
