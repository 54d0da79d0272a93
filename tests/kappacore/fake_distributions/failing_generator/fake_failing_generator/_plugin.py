from kappacore.plugins.hookspecs import hookimpl
from kappacore.plugins.specs import CacheBackendSpec, SourceSpec, WrapperSpec


@hookimpl
def kappacore_sources():
    yield SourceSpec(name="half", target="fake_failing_generator.x:X", api=1)
    raise RuntimeError("gave up halfway")
