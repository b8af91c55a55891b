"""`python -m nas_bo` is the command `nas-bo`."""

from nas_bo.cli.app import main

if __name__ == "__main__":
    main()
