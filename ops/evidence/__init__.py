"""Anytime-valid evidence, one test a file: pure functions of counts, so that neither order nor batching matters.

Every test is an e-process: if its hypothesis holds, it exceeds 1/alpha at any time with probability alpha at most,
however often one looks (Ville's inequality). All are given as natural logarithms.
"""
