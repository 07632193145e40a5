"""Rival generators: what others would draw instead of our denoiser, from the same pairs, codec, features and budget."""
