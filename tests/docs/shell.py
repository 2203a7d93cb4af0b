"""Shell blocks of a document, run in order in one shell, each held against what the document says that it prints."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from app.db.embedded.programs import ensure_programs
from tests.conftest import project_folder
from tests.docs.documents import Block, blocks_to_run

#: What stands for any text in what a command prints.
ANY = "…"
_TIMEOUT_S = 110


class Step(NamedTuple):
    """Commands of a block up to a line `# …` that says what they print, or to the block's end."""

    block: Block
    commands: str
    printed: str | None


def steps(document: str) -> list[Step]:
    """Take the shell blocks of a document apart."""
    found = []
    for block in blocks_to_run("sh", document):
        commands: list[str] = []
        for line in block.text.splitlines():
            if line.startswith("# "):
                found.append(Step(block, "\n".join(commands), line.removeprefix("# ")))
                commands = []
            else:
                commands.append(line)
        if commands:
            found.append(Step(block, "\n".join(commands), None))
    return found


async def run_document(document: str, folder: Path, replaced: Mapping[str, str], environ: Mapping[str, str]) -> None:
    """Run a document's commands in a copy of the checkout's top; fail at the first that fails or prints another text.

    Texts of the document are replaced first: addresses and keys.
    """
    for path in project_folder().iterdir():
        if path.name not in (".data", ".env"):
            (folder / path.name).symlink_to(path)
    planned = steps(document)
    assert planned, document
    script = ["set -euo pipefail"]
    for number, step in enumerate(planned):
        commands = step.commands
        for text, by in replaced.items():
            commands = commands.replace(text, by)
        script.append(f"{{ {commands}\n}} >{number}.out 2>{number}.err")
    await _run_bash("\n".join(script), folder, environ)
    for number, step in enumerate(planned):
        out, err = folder / f"{number}.out", folder / f"{number}.err"
        done = (folder / f"{number + 1}.out").exists() or (folder / "done").exists()
        assert done, f"{step.block.place} failed:\n{step.commands}\n{out.read_text()}{err.read_text()}"
        if step.printed is not None:
            printed = compact(out.read_text())
            pattern = ".*".join(map(re.escape, step.printed.split(ANY)))
            assert re.fullmatch(pattern, printed, re.DOTALL), f"{step.block.place} printed\n{printed}"


async def _run_bash(script: str, folder: Path, environ: Mapping[str, str]) -> None:
    own = Path(sys.executable).parent
    path = os.pathsep.join([str(own), str(ensure_programs(lambda line: None).bin), os.environ["PATH"]])
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        f"{script}\ntouch done",
        cwd=folder,
        env={"PATH": path, "HOME": str(folder), "PYTHONPATH": str(project_folder()), **environ},
        stdin=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(_TIMEOUT_S):
        await process.wait()


def compact(text: str) -> str:
    """Write JSON without spaces and line breaks, as curl shows it; other text without spaces at its ends."""
    try:
        return json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)
    except ValueError:
        return text.strip()
