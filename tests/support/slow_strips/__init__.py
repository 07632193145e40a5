"""The slow, clear way to a strip: curves of single beats at 512 Hz on nine electrodes, filtered and thinned.

What ships (``ecg_gym.virtual_patient.strip_drawing``) is compared with it.
"""
