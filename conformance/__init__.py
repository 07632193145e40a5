"""Other people's checks, run against these environments: `make conformance`, or `python -m conformance --help`.

Each check is a program of its own (``checks/``) that runs in the virtual environment whose packages it needs
(``homes.py``); what cannot be installed here is skipped by name. Nothing of anybody else's is copied into this folder.
"""
