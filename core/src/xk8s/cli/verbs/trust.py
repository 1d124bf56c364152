"""xk8s trust."""

from __future__ import annotations

import click

from xk8s.verbs import echo


@click.command()
@click.option("--revoke", is_flag=True, help="Take the trust back.")
def command(*, revoke: bool) -> None:
    """Let the settings file of this directory set everything.

    A `./xk8s.toml` counts for whoever works in its directory. Those of its settings that give
    power over this machine, such as cluster.qemu_args, are refused until you trust it; each
    change of the file takes that again. A file that you name (--config) needs no trust.
    """
    from xk8s.errors import UsageError
    from xk8s.names.config_file import CONFIG_FILE, read_config

    config = read_config(None)
    if config is None:
        raise UsageError(f"there is no {CONFIG_FILE}", where=".")
    config.tables()
    path = config.path.absolute()
    if revoke:
        config.distrust()
        echo(f"{path} is not trusted any more")
    else:
        config.trust()
        echo(f"{path} is trusted until it changes")
