from kappacore.plugin_api import CacheBackendSpec, SourceSpec, WrapperSpec, hookimpl


@hookimpl
def kappacore_sources():
    yield SourceSpec(name="twin", target="fake_first.targets:source", api=1)
    yield SourceSpec(name="fake_first-alone", target="fake_first.targets:source", api=1)
