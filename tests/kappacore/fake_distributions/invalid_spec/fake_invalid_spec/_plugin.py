from kappacore.plugins.hookspecs import hookimpl
from kappacore.plugins.specs import CacheBackendSpec, SourceSpec, WrapperSpec


@hookimpl
def kappacore_sources():
    yield SourceSpec(name="Not A Name", target="fake_invalid_spec.x:X", api=1)
