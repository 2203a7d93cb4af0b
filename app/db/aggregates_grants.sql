GRANT SELECT ON reading_1m, reading_1h, reading_1d TO tidegauge_reader;
