"""``ecg-gym soak``: does it hold? Many steps, many broken inputs, many kills; figures from one resumable command."""
