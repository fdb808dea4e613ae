"""melfast doctor."""

import click

from melfast.cli import CONTEXT
from melfast.cli.say import say


@click.command("doctor", context_settings=CONTEXT)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show what was detected, what would be used, and how to fix what is missing.

    Each library is tried out in its own process. The exit code is 0 if training and prediction
    work on the CPU, even if other parts are missing, and 1 otherwise.

    \b
    Example: melfast doctor
    """
    import json
    import platform
    import sys

    from melfast import __version__
    from melfast.doctor.examine import PROBES, USES, examine

    python = platform.python_version()
    if as_json:
        findings = list(examine())
        ok = not any(finding.stops for finding in findings)
        about = {
            "melfast": __version__,
            "python": python,
            "executable": sys.executable,
            "platform": platform.platform(),
            "ok": ok,
        }
        every = [finding.as_json() for finding in findings]
        click.echo(json.dumps({**about, "findings": every}, indent=2))
        ctx.exit(0 if ok else 1)
    say(f"melfast {__version__}, Python {python}, {platform.platform()}")
    width = max(len(probe.name) for probe in PROBES + USES)
    stopped = []
    for finding in examine():
        if finding.name == USES[0].name:
            say("would be used by")
        say(f"  {finding.status:<6}  {finding.name:<{width}}  {finding.text}")
        if finding.fix:
            say(f"  {'':<6}  {'':<{width}}  {finding.what}: {finding.fix}")
        if finding.stops:
            stopped.append(finding.name)
    if stopped:
        say(f"training or prediction would not work: see {', '.join(stopped)}", err=True)
        ctx.exit(1)
    say("training and prediction on the CPU would work")
