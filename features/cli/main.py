"""The command line: `features demo | circles | intervene | evr | irreducible | sae train | sae discover`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from features.cli.commands import Circles, Demo, Evr, Intervene, Irreducible, Sae, SaeDiscover, SaeTrain

# jax is imported inside the commands: `features --help` answers at once.


_Command = (
    Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Circles, tyro.conf.subcommand("circles")]
    | Annotated[Intervene, tyro.conf.subcommand("intervene")]
    | Annotated[Evr, tyro.conf.subcommand("evr")]
    | Annotated[Irreducible, tyro.conf.subcommand("irreducible")]
    | Annotated[Sae, tyro.conf.subcommand("sae")]
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; bad input ends with a line or a box on stderr and status 2."""
    command = tyro.cli(
        _Command, prog="features", description=__doc__, args=arguments,
        config=(tyro.conf.OmitArgPrefixes,),
    )  # fmt: skip
    from features.cli import autoencoders as sae_commands
    from features.cli import models as commands

    try:
        match command:
            case Demo():
                commands.demo(command)
            case Circles():
                commands.circles(command)
            case Intervene():
                commands.intervene(command)
            case Evr():
                commands.evr(command)
            case Irreducible():
                commands.irreducible(command)
            case Sae(SaeTrain() as inner):
                sae_commands.train(inner)
            case Sae(SaeDiscover() as inner):
                sae_commands.discover(inner)
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        print(f"features: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
