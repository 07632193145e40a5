"""``python -m training.cli``: the command line without its entry point."""

from training.cli.app import app

if __name__ == "__main__":
    app()
