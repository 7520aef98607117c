"""`ecrl report BUNDLE`: verifies a bundle and makes its report again. Its imports are inside the function."""

from pathlib import Path

import typer


def report_bundle(bundle: Path, out: Path | None, *, check: bool) -> None:
    """Write the report of a bundle, and exit with 4 if it is not, byte for byte, the one in the bundle."""
    from ecrl import __version__
    from ecrl.bundle.bag import open_bag
    from ecrl.bundle.bundle import check_extra, find_differing_files, load_evidence, remake_report
    from ecrl.bundle.contents import RESULTS
    from ecrl.cli.commands.counted_again import count_again, exit_if_different
    from ecrl.errors import EXIT_SOME_FAILED

    check_extra()
    folder = out or bundle.with_name(f"{bundle.name.removesuffix('.zip')}_report")
    with open_bag(bundle) as (data, info):
        typer.echo(f"{bundle}: every file has the digest that it was bundled with", err=True)
        written = remake_report(data, info, folder)
        differing = find_differing_files(data, info, written, folder)
        # The second count is no part of the bundled report, so it is printed only.
        found = count_again(load_evidence(data, info), data / RESULTS).recount if check else None
    for path in written:
        typer.echo(str(path))
    if differing:
        typer.echo(
            f"{len(differing)} of {len(written)} files differ from the bundle's: {', '.join(differing)}", err=True
        )
        typer.echo(f"The bundle was made by ecrl {info.version}; this is ecrl {__version__}.", err=True)
        raise typer.Exit(EXIT_SOME_FAILED)
    typer.echo(f"the report is the bundle's, byte for byte ({len(written)} files)", err=True)
    if found is not None:
        exit_if_different(found)
