"""``ecg-gym benchmark``: every agent in the virtual patient, whatever it learned from or imagined in. Research only.

Read in this order: ``protocol`` (what is asked, and its hash), ``agents`` (who is asked), ``episodes`` (one answer is
one row), ``cells`` (rows on disk), ``run`` and ``scale`` (everybody in parallel, resumable), ``statistics``,
``results`` (the document), ``page`` (the leaderboard), ``learners`` (agents that are trained first).
"""
