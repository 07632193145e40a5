"""``ecg-gym evaluate`` and the leaderboard: any policy on frozen patients, paired with the guideline. Research only.

Read in this order: ``evaluation`` (who is treated, and a row per patient on disk), ``policies`` (who is evaluated),
``scores`` (what the rows say), ``anchors`` (the ends of the normalised score), ``submission`` and ``board`` (the page),
``learners`` and ``policy_training`` (policies that are trained), ``offline`` (steps to learn from).
"""
