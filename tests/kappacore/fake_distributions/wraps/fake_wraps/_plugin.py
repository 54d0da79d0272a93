from kappacore.plugin_api import WrapperSpec, hookimpl


@hookimpl
def kappacore_wrappers():
    yield WrapperSpec(name="negate", target="fake_wraps.negate:NegateWrapper", api=1)
