"""Write every dashboard as JSON into grafana/dashboards."""

from pathlib import Path

import msgspec

from grafana.generate import cold_chain, data_quality, operations, sensor, sites
from grafana.generate.dashboard import Json

FOLDER = Path(__file__).parents[1] / "dashboards"
DASHBOARDS = {
    "operations": operations.build,
    "sensor": sensor.build,
    "sites": sites.build,
    "data-quality": data_quality.build,
    "cold-chain": cold_chain.build,
}


def render(dashboard: Json) -> str:
    """Return a dashboard as the text of its file."""
    return msgspec.json.format(msgspec.json.encode(dashboard), indent=2).decode() + "\n"


def main() -> None:
    """Write all files and delete those of dashboards that no longer exist."""
    for path in FOLDER.glob("*.json"):
        if path.stem not in DASHBOARDS:
            path.unlink()
    for name, build in DASHBOARDS.items():
        (FOLDER / f"{name}.json").write_text(render(build()), encoding="utf-8")


if __name__ == "__main__":
    main()
