"""The command `nas-bo`: one file for each of its commands, and what they share."""


def main() -> None:
    """Entry point of the command."""
    from nas_bo.cli.app import main as run

    run()
