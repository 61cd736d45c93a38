"""`python -m hypernet`."""

from hypernet.cli.main import main

if __name__ == "__main__":
    main()
