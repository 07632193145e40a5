"""``python -m conformance.soak``: many steps, many broken inputs, many kills, and what did not hold."""

from conformance.soak.cli import app

if __name__ == "__main__":
    app()
