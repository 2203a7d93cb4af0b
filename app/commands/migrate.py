"""`tidegauge migrate`: brings the schema and the aggregates of the database up to date."""

import rich_click as click

from app.commands.console import command_body, find_dsn, load_settings, output, progress_bar
from app.db.migrations import list_pending, migrate, set_password
from app.db.pool import APP_ROLE, READER_ROLE, connect
from app.db.servers.pooler import refuse_transaction_pooling
from app.db.servers.restored import check_restored


@click.command("migrate")
@click.option(
    "--check", is_flag=True, help="Apply nothing, list pending migrations; the exit code is 1 if there are any."
)
@command_body
async def migrate_command(check: bool) -> int | None:
    """Bring the database's schema and aggregates up to date; safe to run from several processes at once."""
    settings = load_settings()
    dsn = find_dsn(settings)
    if check:
        connection = await connect(dsn)
        try:
            await check_restored(connection)
            pending = await list_pending(connection)
        finally:
            await connection.close()
        for name in pending:
            output.print(f"pending: {name}", highlight=False, soft_wrap=True)
        return 1 if pending else 0
    await refuse_transaction_pooling("DATABASE_URL", dsn)
    with progress_bar() as progress:
        task = progress.add_task("filling aggregates, days", total=None, visible=False)
        applied = await migrate(
            dsn, progress=lambda done, total: progress.update(task, completed=done, total=total, visible=True)
        )
    for role, password in ((READER_ROLE, settings.reader_password), (APP_ROLE, settings.app_password)):
        if password:
            await set_password(dsn, role, password)
    output.print(f"applied: {', '.join(applied)}" if applied else "up to date", highlight=False, soft_wrap=True)
    return None
