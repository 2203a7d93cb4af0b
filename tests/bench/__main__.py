"""Benchmarks: `python -m tests.bench [NAME …]` runs those named, or all of this package."""

import asyncio
import importlib
import pkgutil
import sys
from types import ModuleType

import uvloop

import tests.bench
from app import log


def main() -> None:
    """Run the benchmarks one after another; each prints its own table."""
    log.configure("warning")
    modules = find_benchmarks()
    for name in sys.argv[1:] or modules:
        if name not in modules:
            sys.exit(f"There is no benchmark {name!r}; there are: {', '.join(modules)}")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(modules[name].main())


def find_benchmarks() -> dict[str, ModuleType]:
    """Import this package's benchmarks, which are the modules with an async `main`, and return them by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(tests.bench.__path__) if module.name != "__main__")
    modules = {name: importlib.import_module(f"tests.bench.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "main")}


if __name__ == "__main__":
    main()
