"""Rules whose episodes change without a reading of their own series: `holds` (`horizon`) and `when` (`companions`)."""
