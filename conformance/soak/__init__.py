"""Does it hold? Many steps, many broken inputs, many kills; figures from one resumable command.

``python -m conformance.soak``
"""
