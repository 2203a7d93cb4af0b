"""Files of uPlot and Swagger UI, found where pip has put the packages that ship them."""

from importlib.util import find_spec
from pathlib import Path

#: Package and path in it, by the name under /static/vendor/.
_FILES = {
    "uplot/uPlot.js": ("uplot", "static/uPlot.iife.js"),
    "uplot/uPlot.css": ("uplot", "static/uPlot.min.css"),
    "swagger-ui/swagger-ui.js": ("swagger_ui", "static/swagger-ui-bundle.js"),
    "swagger-ui/swagger-ui.css": ("swagger_ui", "static/swagger-ui.css"),
}


def find_vendor_files() -> dict[str, Path]:
    """Return the path of each file that is installed; the packages themselves are not imported."""
    found = {name: _find(package, path) for name, (package, path) in _FILES.items()}
    return {name: path for name, path in found.items() if path is not None}


def _find(package: str, path: str) -> Path | None:
    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    paths = [Path(folder) / path for folder in folders or ()]
    return next((each for each in paths if each.is_file()), None)
