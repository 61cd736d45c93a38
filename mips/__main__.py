"""`python -m mips`."""

from mips.cli import main

if __name__ == "__main__":
    main()
