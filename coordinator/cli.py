"""The command line `dittofs-coordinator`. Only arguments and exit codes; each command lives in a module of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable


def main() -> None:
    """Run the command line; says what to install when the extra `cli` is missing."""
    try:
        import click  # noqa: PLC0415, F401  (optional)
        import rich  # noqa: PLC0415, F401
    except ImportError:
        sys.exit("the command line needs click and rich: pip install 'dittofs-coordinator[cli,embedded]'")
    _group()()


def _group() -> Callable[[], None]:
    import click  # noqa: PLC0415  (optional)

    from coordinator._version import __version__  # noqa: PLC0415

    @click.group(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "DITTOFS_COORDINATOR"})
    @click.version_option(__version__, prog_name="dittofs-coordinator")
    def group() -> None:
        """Shared lock recovery for DittoFS nodes."""

    @group.command()
    @click.option("--redis", metavar="URL", help="Use this Redis instead of an embedded server.")
    def demo(redis: str | None) -> None:
        """Show three nodes, a crash, reclaims and a disconnect that waits; about 20 s.

        Exits 0 when everything happened, 1 when something did not, 5 when there is no Redis to use.
        """
        from coordinator.demo import story as show  # noqa: PLC0415  (imports redis: only when needed)
        from coordinator.errors import InvalidArgument, Unavailable  # noqa: PLC0415

        try:
            sys.exit(show.run(redis))
        except InvalidArgument as error:
            raise click.UsageError(str(error)) from error
        except Unavailable as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(5)

    return group
