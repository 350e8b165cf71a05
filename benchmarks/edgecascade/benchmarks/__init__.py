"""What offloading saves, measured on real models and real data. Read `offload.py` first."""
