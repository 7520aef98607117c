"""Proof, on the machine at hand, that snapshots are never torn and that each fence is needed.

The production engine, slots and stager train a real model while copies, updates and the persister are made
late on purpose; each snapshot is compared with a blocking copy of the same step, taken by a twin. Then one
fence after the other is left out: what cannot see that torn proves nothing about the rest.
"""
