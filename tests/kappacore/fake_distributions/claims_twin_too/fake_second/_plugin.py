from kappacore.plugins.hookspecs import hookimpl
from kappacore.plugins.specs import CacheBackendSpec, SourceSpec, WrapperSpec


@hookimpl
def kappacore_sources():
    yield SourceSpec(name="twin", target="fake_second.targets:source", api=1)
    yield SourceSpec(name="fake_second-alone", target="fake_second.targets:source", api=1)
