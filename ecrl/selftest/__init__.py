"""Tests on this machine that snapshots are never torn and that each fence is needed.

The production engine, slots and stager train a real model while copies, updates and the persister are delayed on
purpose. Each snapshot is compared with a blocking copy of the same step, taken by a twin run. Then each fence is left
out in turn (a mutant): a check that does not detect the torn snapshot of a mutant proves nothing about the real code.
"""
