"""The flush: the readings of several uploads, stored in one transaction.

Read `batch` first (the readings to store), then `transaction` (the statements of the general way), `feed_payload` (the
live feed's row), `outcomes` (the answers to uploads) and `idempotency` (the answers that are kept). `small` does the
same by one call for the most frequent case.
"""
