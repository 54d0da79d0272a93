from kappacore.plugin_api import CacheBackendSpec, SourceSpec, WrapperSpec, hookimpl


@hookimpl
def kappacore_sources():
    yield SourceSpec(name="Not A Name", target="fake_invalid_spec.x:X", api=1)
