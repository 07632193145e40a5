"""The slow, clear way to intervals: NumPy and SciPy, one strip after another.

What ships (``ecg_gym.waveform``) is compared with it.
"""
