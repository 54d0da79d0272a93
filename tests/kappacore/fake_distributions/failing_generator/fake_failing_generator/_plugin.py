from kappacore.hookspecs import hookimpl
from kappacore.specs import CacheBackendSpec, SourceSpec, WrapperSpec


@hookimpl
def kappacore_sources():
    yield SourceSpec(name="half", target="fake_failing_generator.x:X", api=1)
    raise RuntimeError("gave up halfway")
