"""One flush: what many uploads bring, stored in one transaction.

Read `batch` first (what is to be stored), then `transaction` (the statements) and `feed_payload` (the live feed's row).
"""
