from kappacore.plugins.hookspecs import hookimpl
from kappacore.plugins.specs import CacheBackendSpec, SourceSpec, WrapperSpec


@hookimpl
def kappacore_sources():
    yield WrapperSpec(name="misplaced", target="fake_wrong_kind.x:X", api=1)
