"""Run every benchmark of this package, or those named: `python -m tests.bench [NAME …]`."""

import asyncio
import importlib
import pkgutil
import sys
from types import ModuleType

import uvloop

import tests.bench
from app import log


def main() -> None:
    """Run them one after another; each prints its own table. A benchmark is a module with an async `main`."""
    log.configure("warning")
    modules = find_benchmarks()
    for name in sys.argv[1:] or modules:
        if name not in modules:
            sys.exit(f"There is no benchmark {name!r}; there are: {', '.join(modules)}")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(modules[name].main())


def find_benchmarks() -> dict[str, ModuleType]:
    """Import what is in this package, by name; other modules than benchmarks are left out."""
    names = sorted(module.name for module in pkgutil.iter_modules(tests.bench.__path__) if module.name != "__main__")
    modules = {name: importlib.import_module(f"tests.bench.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "main")}


if __name__ == "__main__":
    main()
