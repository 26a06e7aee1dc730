"""The command ``occam doctor``: what ``doctor.examine`` found, as a table or as JSON."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ._options import BundleOption
from .doctor import Finding, State, examine

PROBLEMS_FOUND: Final = 1
STYLES: Final[dict[State, str]] = {"ok": "green", "note": "dim", "problem": "bold red"}
MARKS: Final[dict[State, str]] = {"ok": "✓", "note": "•", "problem": "✗"}
ASCII_MARKS: Final[dict[State, str]] = {"ok": "+", "note": "-", "problem": "X"}


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(doctor)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    bundle: BundleOption = None,
) -> None:
    """Say what works on this machine, what does not, and how to mend it.

    Exit code 0: no problem. 1: there are problems.
    """
    logger = logging.getLogger("occam_sdk")
    level = logger.level
    logger.setLevel(logging.ERROR)  # openSMILE's licence is in the table
    try:
        findings = examine(bundle)
    finally:
        logger.setLevel(level)
    if as_json:
        sys.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=2) + "\n")
    else:
        _show(findings)
    sys.stdout.flush()
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(PROBLEMS_FOUND)


def _show(findings: Sequence[Finding]) -> None:
    console = Console()
    marks = MARKS if console.encoding.lower().startswith("utf") else ASCII_MARKS
    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        style = STYLES[finding.state]
        table.add_row(
            Text(marks[finding.state], style),
            Text(finding.name, style if finding.state == "problem" else ""),
            Text(finding.detail, "dim" if finding.state == "note" else ""),
        )
    console.print(table)
    for state, title in (("problem", "To mend"), ("note", "Worth knowing")):
        advised = [f for f in findings if f.state == state and f.remedy]
        if advised:
            console.print()
            console.print(Text(title, "bold"))
        for finding in advised:
            line = Text.assemble(f" {marks[finding.state]} {finding.name}: ", finding.remedy)
            console.print(line, soft_wrap=True)  # a command is copied in one piece
    problems = sum(finding.state == "problem" for finding in findings)
    console.print()
    console.print(
        Text(f"{problems} problem{'s' if problems > 1 else ''}", "bold red")
        if problems
        else Text("no problems", "green")
    )
