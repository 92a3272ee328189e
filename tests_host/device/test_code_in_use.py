"""Code that is wanted for a moment is loaded for that moment alone: not again for each telegram or read-out, and nobody
holds it when it was dropped.
"""

import gc
import types
from pathlib import Path

import pytest
from support.virtual_time import Probe

from optoprobe import simulated
from optoprobe.settings import placed_files

# What diagnostics load, once a minute, and what ends a row of quick restarts, once.
BY_TIME = {
    "firmware.device_counts",
    "firmware.hardware.memory_figures",
    "firmware.hardware.restarts",
    "firmware.reading.telegram_counts",
}
# Of each row of the registry, and what is read in another way: pushed and asked, slowly, by short names.
METERS = ("sml", "iec-c", "p1", "dlms", "dlms-ask", "dlms-ask-sn", "kmp", "mbus", "lis200", "modbus", "c1218")
LOOKED_THROUGH = ("iec-c", "dlms", "dlms-ask")  # a look through all objects takes 0.2 s
MOST_S = 600


def held_code(probe: Probe) -> set[str]:
    """Modules of a board that are not loaded, and of which a function lives. It keeps all of its module."""
    gc.collect()
    loaded = {id(vars(module)) for module in probe.modules.loaded.values()}
    functions = [f for f in gc.get_objects() if isinstance(f, types.FunctionType)]
    ours = [f.__globals__ for f in functions if f.__globals__.get("__builtins__") is probe.modules._builtins]
    names = {str(names["__name__"]) for names in ours if id(names) not in loaded}
    return {name for name in names if not name.startswith("metering.on_computer.")}


@pytest.mark.parametrize("name", METERS)
def test_an_equal_telegram_loads_nothing_and_what_was_dropped_is_gone(name: str, tmp_path: Path) -> None:
    protocol = simulated.meters()[name]
    module = simulated.of(protocol)
    meter = module.make(name, ())
    settings: dict[str, object] = {"protocol": protocol, "interval_s": 5}
    settings |= getattr(module, "settings", lambda _: {})(meter)
    settings, files = placed_files.placed(settings, tmp_path)
    for file, data in files.items():
        (tmp_path / file).write_bytes(data)
    with Probe(tmp_path, meter, settings) as probe:
        services = probe.app.services
        published: list[float] = []
        services.on_published = lambda: published.append(probe.now_s)
        assert probe.run_for(MOST_S, lambda: len(published) > 1 and services.network.discovery.announcements)
        loaded: set[str] = set()
        load = probe.modules.load

        def noted(name: str) -> object:
            if name not in probe.modules.loaded and name.startswith(("firmware", "metering")):
                loaded.add(name)
            return load(name)

        probe.modules.load = noted  # type: ignore[method-assign]
        n = len(published)
        assert probe.run_for(MOST_S, lambda: len(published) > n + 1)
        assert loaded <= BY_TIME
        if name in LOOKED_THROUGH:
            assert held_code(probe) == set()


def test_what_knows_all_protocols_is_gone_when_one_is_read(tmp_path: Path) -> None:
    """1.7 KB, and the search's code."""
    with Probe(tmp_path, simulated.of("sml").make("sml", ()), {"protocol": "auto"}) as probe:
        assert probe.run_for(MOST_S, lambda: probe.of("/state"))
        searching = ("metering.protocols", "metering.detection.", "firmware.reading.meter_search", "firmware.store")
        assert not [name for name in probe.modules.loaded if name.startswith(searching)]
        assert not {name for name in held_code(probe) if name.startswith(searching)}
