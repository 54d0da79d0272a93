from kappacore.plugin_api import CacheBackendSpec, SourceSpec, WrapperSpec, hookimpl


@hookimpl
def kappacore_sources():
    yield SourceSpec(name="half", target="fake_failing_generator.x:X", api=1)
    raise RuntimeError("gave up halfway")
