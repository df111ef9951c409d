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

    @group.command()
    @click.option("--redis", metavar="URL", default="redis://127.0.0.1:6379/0", show_default=True, help="The Redis.")
    @click.option("--scope", default="default", show_default=True)
    @click.option("--namespace", default="dittofs", show_default=True)
    def init(redis: str, scope: str, namespace: str) -> None:
        """Mark a scope without data as a new installation, once, before any node has joined.

        Without it the first node begins with a full grace period, since the data may have been lost.
        Exits 0 when it is done, 4 when the scope has data already, 5 when Redis cannot be reached.
        """
        from coordinator.api.installation import initialize  # noqa: PLC0415  (imports redis: only when needed)
        from coordinator.errors import ContractBroken, InvalidArgument, OutcomeUnknown, ScopeExists, Unavailable  # noqa: PLC0415

        try:
            initialize(redis, scope=scope, namespace=namespace)
        except (InvalidArgument, ValueError) as error:
            raise click.UsageError(str(error)) from error
        except (ScopeExists, ContractBroken) as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(4)
        except (Unavailable, OutcomeUnknown) as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(5 if isinstance(error, Unavailable) else 6)
        click.echo(f"scope {scope!r} is marked as new: its first node begins normal")

    return group
