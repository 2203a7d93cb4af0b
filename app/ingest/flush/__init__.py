"""The flush: the readings of several uploads, stored in one transaction.

Read `batch` first (the readings to store), then `transaction` (the statements) and `feed_payload` (the live feed's
row).
"""
