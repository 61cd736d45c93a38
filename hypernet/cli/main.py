"""The command line: `hypernet train | generate | classify | phase | gallery`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; bad input ends with a line or a box on stderr and status 2."""
    from hypernet.cli import run as commands
    from hypernet.cli.commands import Classify, Gallery, Generate, Phase, Train, registry

    Command = (
        Annotated[Train, tyro.conf.subcommand("train")]
        | Annotated[Generate, tyro.conf.subcommand("generate")]
        | Annotated[Classify, tyro.conf.subcommand("classify")]
        | Annotated[Phase, tyro.conf.subcommand("phase")]
        | Annotated[Gallery, tyro.conf.subcommand("gallery")]
    )
    try:
        command = tyro.cli(
            Command,
            prog="hypernet",
            description=__doc__,
            args=arguments,
            config=(tyro.conf.OmitArgPrefixes,),
            registry=registry,
        )
        match command:
            case Train():
                commands.train(command)
            case Generate():
                commands.generate(command)
            case Classify():
                commands.classify(command)
            case Phase():
                commands.phase(command)
            case Gallery():
                commands.gallery(command)
    except (ValueError, TypeError, OSError, FloatingPointError, MemoryError) as error:
        print(f"hypernet: {error}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        first = str(error).splitlines()[0]
        print(f"hypernet: not enough memory: {first}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("hypernet: stopped; --resume goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
