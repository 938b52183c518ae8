"""Imported before torch and numpy: Debian 12's OpenBLAS does not know processors younger than itself, and takes kernels of 2004 there."""
import os

flags = open('/proc/cpuinfo').read().split()
os.environ.setdefault('OPENBLAS_CORETYPE', 'SkylakeX' if 'avx512dq' in flags else 'Haswell' if 'avx2' in flags else 'Prescott')
