"""`tidegauge doctor`: reports what the server needs, what is wrong, and how to solve it."""

import msgspec
import rich_click as click
from rich.markup import escape
from rich.table import Table

from app.commands.console import command_body, load_settings, output
from app.commands.diagnosis import Finding, diagnose


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@command_body
async def doctor(as_json: bool) -> int:
    """Check settings, database, migrations, keys, rules, evaluation, channels, gateways, clocks and sensors.

    The database is that of DATABASE_URL, or the embedded server that runs for DATA_DIR. The secrets that channels refer
    to must be set. Nothing is changed.

    The exit code is 1 when there is a problem. A note, such as a gateway that is offline, is not a problem.
    """
    findings = await diagnose(load_settings())
    if as_json:
        output.print_json(msgspec.json.encode(findings).decode())
    else:
        output.print(_table(findings), highlight=False)
    return 1 if any(finding.state == "problem" for finding in findings) else 0


def _table(findings: list[Finding]) -> Table:
    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "problem": "[bold red]problem[/]"}
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        table.add_row(marks[finding.state], finding.subject, escape(finding.message))
    return table
