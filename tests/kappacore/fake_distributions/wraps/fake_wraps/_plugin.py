from kappacore.plugins.hookspecs import hookimpl
from kappacore.plugins.specs import WrapperSpec


@hookimpl
def kappacore_wrappers():
    yield WrapperSpec(name="negate", target="fake_wraps.negate:NegateWrapper", api=1)
