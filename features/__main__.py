"""`python -m features`."""

from features.cli.main import main

if __name__ == "__main__":
    main()
